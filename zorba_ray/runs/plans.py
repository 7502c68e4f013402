"""The plans of a run on disk, with what their probes cost: what a resumed run and the report read.

A plan's file is written last, whole: where it is there, so is what belongs to it. A plan is never solved again, so the
probes of a round that is done again are read here, not made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from zorba_ray.allocation import Plan
from zorba_ray.config.errors import ConfigError
from zorba_ray.records.schema import ClientRecord
from zorba_ray.rounds.allocator import Allocated
from zorba_ray.runs.folder import ALLOCATION, PLANNED, PROBES, STATISTICS, write_whole


def read_plans(folder: Path) -> dict[int, Plan]:
    """By the round from which each holds."""
    plans = {}
    for path in sorted(folder.glob(PLANNED[0])):
        try:
            start = int(path.stem.partition("-")[2] or 0)
            plans[start] = Plan.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path} is damaged; restore it from a copy: a plan is never solved twice") from None
    return plans


def store(allocated: Allocated, probes: Sequence[ClientRecord], folder: Path) -> None:
    """Write a plan, its statistics and the records of the probes that they came from."""
    suffix = suffix_of(allocated.round)
    if probes:
        rows = [dataclasses.asdict(record) for record in probes]
        write_whole(folder / PROBES.format(suffix), json.dumps(rows))
    statistics = {name: values.tolist() for name, values in vars(allocated.statistics).items()}
    body = {"round": allocated.round, "estimated": bool(allocated.reports)} | statistics
    write_whole(folder / STATISTICS.format(suffix), json.dumps(body))
    write_whole(folder / f"{Path(ALLOCATION).stem}{suffix}.json", json.dumps(allocated.plan.to_json()))


def probes_before(round: int, folder: Path) -> list[ClientRecord]:
    """The records of the probes whose plan holds from this round on, if any were made."""
    path = folder / PROBES.format(suffix_of(round))
    if not path.is_file():
        return []
    try:
        return [ClientRecord(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError):
        raise ConfigError(f"{path} is damaged; restore it from a copy") from None


def suffix_of(round: int) -> str:
    return f"-{round:06d}" if round else ""
