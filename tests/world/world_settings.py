"""Settings of small runs in the simulated world, and a way to run them in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zorba_ray.records.schema import RoundRecord
from zorba_ray.records.stream import table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.simulate import Here, begin
from zorba_ray.runs.summary import Summary

SMALL = [
    "clients.count=6", "rounds=6", "zo.directions=2", "seed=3", "allocation.plan=cyclic",
    "evaluation.every=6", "evaluation.examples=16", "step.lr=1e-3", "task.train_examples=200", "task.test_examples=40",
    "guard.loss_multiple=1000",
]  # fmt: skip
CLOCK = ["fleet.devices=[{forward: 1e9, up: 1e4, down: 1e4, latency: 0.2}]"]
SLOW = [*CLOCK, "fleet.spread=1", "fleet.jitter=0.5"]
EVERYTHING = [
    *SLOW, "participation.clients=4", "participation.choice=samples", "step.weights=equal",
    "participation.availability=markov",
    "participation.up=4", "participation.down=2", "participation.dropout=0.2", "participation.over=0.4",
    "participation.deadline=0.6", "participation.late=keep", "faults.byzantine=0.2", "faults.lie=random",
    "faults.outlier=6", "zo.local_steps=2", "method=decomfl",
]  # fmt: skip


def run(folder: Path, overrides: Sequence[str], resume: bool = False, stop_after: int | None = None) -> Summary:
    config = load_config(None, [*SMALL, *overrides])
    simulation = begin(config, folder, resume, Here())
    stopped = True
    try:
        for event in simulation.events:
            if isinstance(event, RoundRecord) and event.round + 1 == stop_after:
                break
        stopped = False
    finally:
        summary = simulation.finish(interrupted=stopped)
    return summary


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [row for row in table(folder).to_pylist() if row["kind"] == kind]
