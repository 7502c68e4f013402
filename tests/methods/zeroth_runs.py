"""Small runs of the embedded model in this process."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from zorba_ray.config.schema import Config
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.rounds.host import Host
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER, claim_folder
from zorba_ray.runs.prepare import Base, build_host, prepare
from zorba_ray.runs.prepared import Prepared
from zorba_ray.runs.rewind import earlier
from zorba_ray.runs.simulate import Here, Simulation

SMALL = (
    "clients.count=4", "rounds=3", "seed=5", "allocation.plan=cyclic", "clients.batch=4", "task.max_tokens=24",
    "evaluation.every=100", "evaluation.examples=32", "guard.loss_multiple=1000", "task.train_examples=200",
    "task.test_examples=40",
)  # fmt: skip


PLAIN = (  # what presets change
    "zo.directions=4", "zo.local_steps=1", "zo.mu=1e-3", "zo.shared=true", "step.weights=samples", "fedspzo.forks=2",
    *(f"{name}.{key}" for name in ("fedavg", "fedit") for key in ("epochs=0", "weight_decay=0")),
)  # fmt: skip


def config_of(*overrides: str, presets: tuple[str, ...] = ()) -> Config:
    """A small run; the methods alike but for what `overrides` or `presets` say."""
    return load_config(None, [*SMALL, *(() if presets else PLAIN), *overrides], presets)


@lru_cache(maxsize=1)
def base() -> Base:
    """Model and data are the same for all methods."""
    return prepare(config_of()).base


def host_of(*overrides: str) -> Host:
    return build_host(replace(base(), config=config_of(*overrides)), "cpu")


def run(
    prepared: Prepared, folder: Path, resume: bool = False, stop_after: int | None = None
) -> list[RoundRecord | EvaluationRecord]:
    """Rounds and evaluations of a run, or of what is left of it."""
    claim = claim_folder(prepared.config, folder, resume)
    simulation = Simulation(prepared, claim, Here(), earlier(folder, prepared.config))
    found = []
    for event in simulation.events:
        if isinstance(event, RoundRecord | EvaluationRecord):
            found.append(event)
        if isinstance(event, RoundRecord) and event.round + 1 == stop_after:
            break
    simulation.finish(interrupted=stop_after is not None)
    return found


def ledger_of(folder: Path) -> bytes:
    return (folder / LEDGER).read_bytes()
