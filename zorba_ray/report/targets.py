"""What it cost to get so far: rounds, FLOPs, bytes and seconds until a test accuracy was first reached."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zorba_ray.config.words import percent
from zorba_ray.report.curves import AXES, Curves, Series
from zorba_ray.studies.aggregate import cost_to_reach, spread

WAY = (0.5, 0.9)  # of the gain of the run that gained most


def targets(series: Sequence[Series], wanted: Sequence[float] = ()) -> list[float]:
    """Accuracies worth a line: those that were asked for, and parts of the way from the start to the best."""
    curves = [each.tests["accuracy"] for one in series for each in one.runs if len(each.tests.get("accuracy", ()))]
    if not curves:
        return sorted(set(wanted))
    start, best = min(float(each[0]) for each in curves), max(float(np.nanmax(each)) for each in curves)
    between = [start + part * (best - start) for part in WAY] if best > start else []
    return sorted({*wanted, *between})


def table_of(series: Sequence[Series], wanted: Sequence[float] = ()) -> tuple[list[str], list[list[str]]]:
    """Head and rows: for each target and each series the median over its runs; costs that no run has are left out."""
    runs = [run for one in series for run in one.runs]
    axes = [axis for axis in AXES if any(np.nan_to_num(run.costs[axis.cost]).any() for run in runs)]
    rows = []
    for target in targets(series, wanted):
        for i, one in enumerate(series):
            costs = [spread([cost(run, axis.cost, target) for run in one.runs]).median for axis in axes]
            reached = sum(math.isfinite(cost(run, "rounds", target)) for run in one.runs)
            said = [axis.show(value) if math.isfinite(value) else "–" for axis, value in zip(axes, costs, strict=True)]
            name = [one.label, f"{reached} of {len(one.runs)}"] if len(series) > 1 or len(one.runs) > 1 else []
            rows.append([percent(target) if i == 0 else "", *name, *said])
    names = ["Run", "Reached"] if len(series) > 1 or any(len(one.runs) > 1 for one in series) else []
    return ["Test accuracy", *names, *(axis.tab for axis in axes)], rows


def cost(run: Curves, name: str, target: float) -> float:
    """Up to the first evaluation that is as good; infinite where none is."""
    accuracy = run.tests.get("accuracy", np.zeros(0))
    return cost_to_reach(run.costs[name][run.at][: len(accuracy)], accuracy, target)
