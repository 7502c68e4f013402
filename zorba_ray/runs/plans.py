"""The plans of a run on disk: what a resumed run and the report read."""

from __future__ import annotations

import json
from pathlib import Path

from zorba_ray.allocation import Plan
from zorba_ray.rounds.allocator import Allocated
from zorba_ray.runs.folder import ALLOCATION, STATISTICS


def read_plans(folder: Path) -> dict[int, Plan]:
    """By the round from which each holds."""
    plans = {}
    for path in sorted(folder.glob(f"{Path(ALLOCATION).stem}*.json")):
        start = int(path.stem.partition("-")[2] or 0)
        plans[start] = Plan.from_json(json.loads(path.read_text(encoding="utf-8")))
    return plans


def store(allocated: Allocated, folder: Path) -> None:
    """Write a plan and its statistics into the run folder: what a resumed run and the report read."""
    suffix = f"-{allocated.round:06d}" if allocated.round else ""
    path = folder / f"{Path(ALLOCATION).stem}{suffix}.json"
    statistics = {name: values.tolist() for name, values in vars(allocated.statistics).items()}
    body = {"round": allocated.round, "estimated": bool(allocated.reports)} | statistics
    (folder / STATISTICS.format(suffix)).write_text(json.dumps(body), encoding="utf-8")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(allocated.plan.to_json()), encoding="utf-8")
    temporary.replace(path)
