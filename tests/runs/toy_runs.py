"""Runs whose clients only pretend, so that a test can afford hundreds: every report is a pure function of the weights'
history, the round and the client, as a real one is. Folder, ledger, records and resumption are the real ones."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, RoundPlan, SharedStep, Step, Tally
from zorba_ray.records.stream import table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.prepare import read
from zorba_ray.runs.prepared import Outline, Prepared
from zorba_ray.runs.simulate import Here, Simulation, Snapshots, begin
from zorba_ray.runs.summary import Summary, read_summary

TOY = [
    "clients.count=3", "clients.batch=2", "rounds=4", "zo.directions=2", "seed=3", "allocation.plan=cyclic",
    "evaluation.every=2", "evaluation.examples=8", "task.train_examples=48", "task.test_examples=8",
    "guard.loss_multiple=100",
]  # fmt: skip
ESTIMATED = [
    "allocation.statistics=estimated", "allocation.every=2", "allocation.probe_clients=2",
    "allocation.probe_directions=2",
]  # fmt: skip
TIMES = ("seconds", "seconds_rounds", "notes")  # what may differ: how long it took, and what was said of accidents


class Pretender:
    """The loop's backend; its weights are a hash of the steps that led to them."""

    def __init__(self, blocks: int, steps: Sequence[Step]):
        self.blocks, self.state = blocks, b""
        for step in steps:
            self.apply(step)

    def _draw(self, *what: int) -> np.random.Generator:
        seed = hashlib.sha256(self.state + np.array(what, dtype=np.int64).tobytes()).digest()
        return np.random.default_rng(np.frombuffer(seed, dtype=np.uint32))

    def probe(self, plan: RoundPlan, active: NDArray[np.bool_]) -> list[Report]:
        reports = []
        for n in plan.participants:
            count = plan.directions * (2 * int(active[n].sum()) if plan.method == "statistics" else 1)
            draw = self._draw(plan.round, n, plan.batch)
            scalars = draw.normal(size=count).astype(np.float32)
            flops = 1e3 * float(active[n].sum()) + 0.1 * n
            reports.append(Report(n, scalars, float(draw.random()) + 1, 2, 7, flops, 0.01, upload=4 * count))
        return reports

    def apply(self, step: Step) -> None:
        assert isinstance(step, SharedStep)
        self.state = hashlib.sha256(self.state + step.coefficients.tobytes()).digest()

    def evaluate(self) -> Tally:
        right = self._draw(0).integers(2, size=8).astype(np.uint8)
        return Tally(int(right.sum()), float(self._draw(1).random()), 8, right.tobytes())

    def digest(self) -> str:
        return self.state.hex()


@functools.cache
def outline_of() -> tuple[Any, Outline]:
    return read(load_config(None, TOY))


class Toy(Here):
    """Model and data are read once in this process."""

    def read(self, config: Config) -> tuple[Any, Outline]:
        return outline_of()

    def ready(self, prepared: Prepared, steps: Sequence[Step], snapshots: Snapshots) -> Pretender:
        return Pretender(len(prepared.outline.header.blocks), steps)

    def snapshot(self) -> None:
        """There are no weights."""


@functools.cache
def config_of(*overrides: str) -> Config:
    return load_config(None, [*TOY, *overrides])


def open_run(folder: Path, *overrides: str, resume: bool = False) -> Simulation:
    return begin(config_of(*overrides), folder, resume, Toy())


def run(folder: Path, *overrides: str, resume: bool = False) -> Summary:
    simulation = open_run(folder, *overrides, resume=resume)
    for _ in simulation.events:
        pass
    return simulation.finish()


def outcome(folder: Path) -> tuple[bytes, dict[str, Any], list[dict[str, Any]]]:
    """Ledger, totals and records of a run, without what only says how long something took."""
    totals = {name: value for name, value in asdict(read_summary(folder)).items() if name not in TIMES}
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in table(folder).to_pylist()]
    return (folder / LEDGER).read_bytes(), totals, rows
