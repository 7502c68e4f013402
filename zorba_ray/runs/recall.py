"""The simulated world of a resumed run: it lives through the recorded rounds again, from the ledger and the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages import Report, Step
from zorba_ray.runs.past import Past
from zorba_ray.world.world import World


def recall(world: World, steps: Sequence[Step], past: Past, active_in: Callable[[int], NDArray[np.bool_]]) -> None:
    """Bring a new world to where the steps end. Records hold clock and scalars exactly, so it is the world that was.
    `active_in` gives a round's a [N, L]."""
    rounds = {row["round"]: row for row in past.rounds.to_pylist()}
    late: dict[int, list[tuple[Report, float]]] = {}
    if world.config.participation.late == "keep":
        for row in past.late.sort_by("client").to_pylist():
            late.setdefault(row["round"], []).append((report_from(row), row["virtual_seconds"]))
    for step in steps:
        row = rounds[step.round]
        active = active_in(step.round)
        world.recall(active, row["virtual_seconds"], late.get(step.round, ()), step, row["reported"])


def report_from(row: dict[str, Any]) -> Report:
    """A client's report again, as far as a step needs it."""
    scalars = np.array(row["scalars"], dtype=np.float32)
    return Report(row["client"], scalars, row["loss"], row["samples"], row["forwards"], row["flops"], row["seconds"])
