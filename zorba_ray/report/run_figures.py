"""The pictures of a run's page with their data, for a paper."""

from __future__ import annotations

from typing import Any

import numpy as np

from zorba_ray.report import figures
from zorba_ray.report.curves import Series
from zorba_ray.report.curves import pictures as curves
from zorba_ray.report.gather import Run
from zorba_ray.report.pictures import Picture


def pictures_of(run: Run) -> list[Picture]:
    """Learning curves, allocation, memory, and where there were rounds traffic and scalars."""
    made = [*curves([Series("this run", [run.curves])]), allocation(run), memory(run)]
    if len(run.rounds.get("round", ())):
        made += [traffic(run), scalars(run)]
    return [*made, *spread(run)]


def allocation(run: Run) -> Picture:
    matrix, groups = run.plan.matrix, [(each.name, each.members) for each in run.classes]
    clients, blocks = (places.tolist() for places in np.nonzero(matrix))
    data: dict[str, list[Any]] = {"client": clients, "block": [run.blocks[block] for block in blocks]}
    return Picture("allocation", lambda: figures.allocation_map.figure(matrix, groups, run.blocks), data)


def memory(run: Run) -> Picture:
    names, budgets = [each.name for each in run.classes], [each.budget for each in run.classes]
    least, most = [each.predicted_least for each in run.classes], [each.predicted_most for each in run.classes]
    data: dict[str, list[Any]] = {"class": names, "budget": budgets, "least": least, "most": most}
    return Picture("memory", lambda: figures.budget_bars.figure(names, budgets, least, most), data)


def traffic(run: Run) -> Picture:
    rounds, up, down = (run.rounds[name] for name in ("round", "bytes_up", "bytes_down"))
    data = {"round": rounds.tolist(), "bytes_up": up.tolist(), "bytes_down": down.tolist()}
    return Picture("traffic", lambda: figures.traffic.figure(rounds, up, down), data)


def scalars(run: Run) -> Picture:
    rounds, means, spreads = (run.rounds[name] for name in ("round", "scalar_mean", "scalar_std"))
    data = {"round": rounds.tolist(), "scalar_mean": means.tolist(), "scalar_std": spreads.tolist()}
    return Picture("scalars", lambda: figures.scalars.figure(run.scalars, rounds, means, spreads), data)


def spread(run: Run) -> list[Picture]:
    if run.spread is None:
        return []
    predicted, observed = run.spread.predicted, run.spread.observed
    data = {"predicted": predicted.tolist(), "observed": observed.tolist()}
    return [Picture("second-moments", lambda: figures.spread.figure(predicted, observed), data)]
