"""The pictures of a run's page with their data and what stands under the pointer: on the page, and for a paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zorba_ray.config.units import format_bytes
from zorba_ray.report import changes, data_figures, figures, fleet
from zorba_ray.report.curves import Series
from zorba_ray.report.curves import pictures as curves
from zorba_ray.report.gather import Run
from zorba_ray.report.pictures import Picture, Value, thinned


def pictures_of(run: Run) -> list[Picture]:
    """Learning curves, allocation, memory and data, and where there were rounds fleet, traffic and scalars."""
    made = [*curves([Series("this run", [run.curves])]), allocation(run), *changed(run), memory(run), *partition(run)]
    if len(run.rounds.get("round", ())):
        made += [*fleet.pictures(run.fleet), traffic(run), scalars(run)]
    return [*made, *spread(run)]


def allocation(run: Run) -> Picture:
    matrix, groups = run.plan.matrix, [(each.name, each.members) for each in run.classes]
    clients, blocks = (places.tolist() for places in np.nonzero(matrix))
    data: dict[str, list[Any]] = {"client": clients, "block": [run.blocks[block] for block in blocks]}
    values: list[Value] = [
        (block, float(count) / 2, f"{name}: {count:,} clients")
        for block, (name, count) in enumerate(zip(run.blocks, run.plan.coverage.tolist(), strict=True))
    ]
    return Picture("allocation", lambda: figures.allocation_map(matrix, groups, run.blocks), data, thinned(values, 200))


def changed(run: Run) -> list[Picture]:
    if len(run.plans) < 2:
        return []
    return [changes.coverage(run.plans, run.blocks, run.summary.rounds_done)]


def memory(run: Run) -> Picture:
    names, budgets = [each.name for each in run.classes], [each.budget for each in run.classes]
    least, most = [each.predicted_least for each in run.classes], [each.predicted_most for each in run.classes]
    traced = [float(run.memory[name].traced) if name in run.memory else math.nan for name in names]
    measured = [float(each.measured.get("measured_bytes", math.nan)) for each in run.classes]
    data: dict[str, list[Any]] = {"class": names, "budget": budgets, "least": least, "most": most, "traced": traced,
                                  "measured": measured}  # fmt: skip
    values: list[Value] = []
    for place, (name, budget, *others) in enumerate(zip(names, budgets, least, most, traced, measured, strict=True)):
        told = [f"{what} {format_bytes(value)}" for what, value in
                zip(("least", "most", "traced", "measured"), others, strict=True) if math.isfinite(value)]  # fmt: skip
        values.append((budget / 2, place, f"{name}: {', '.join(told)}, budget {format_bytes(budget)}"))
    draw = lambda: figures.budget_bars(names, budgets, least, most, traced, measured)  # noqa: E731
    return Picture("memory", draw, data, values)


def partition(run: Run) -> list[Picture]:
    return [] if run.dealt is None else [data_figures.partition(run.dealt)]


def traffic(run: Run) -> Picture:
    rounds, up, down = (run.rounds[name] for name in ("round", "bytes_up", "bytes_down"))
    data = {"round": rounds.tolist(), "bytes_up": up.tolist(), "bytes_down": down.tolist()}
    values: list[Value] = [
        (round + 1, total, f"Round {round + 1}: {format_bytes(total)} {way} so far")
        for way, totals in (("down", np.cumsum(down)), ("up", np.cumsum(up)))
        for round, total in thinned(list(zip(rounds.tolist(), totals.tolist(), strict=True)))
    ]
    return Picture("traffic", lambda: figures.traffic(rounds, up, down), data, values)


def scalars(run: Run) -> Picture:
    rounds, means, spreads = (run.rounds[name] for name in ("round", "scalar_mean", "scalar_std"))
    data = {"round": rounds.tolist(), "scalar_mean": means.tolist(), "scalar_std": spreads.tolist()}
    values: list[Value] = [
        (round + 1, mean, f"Round {round + 1}: {mean:.3g} ± {deviation:.3g}")
        for round, mean, deviation in thinned(list(zip(*(data[name] for name in data), strict=True)))
    ]
    return Picture("scalars", lambda: figures.scalars(run.scalars, rounds, means, spreads), data, values, 1)


def spread(run: Run) -> list[Picture]:
    if run.spread is None:
        return []
    predicted, observed = run.spread.predicted, run.spread.observed
    data = {"predicted": predicted.tolist(), "observed": observed.tolist()}
    values: list[Value] = [
        (x, y, f"predicted {x:.3g}, observed {y:.3g}")
        for x, y in thinned(list(zip(data["predicted"], data["observed"], strict=True)))
    ]
    return [Picture("second-moments", lambda: figures.spread(predicted, observed), data, values)]
