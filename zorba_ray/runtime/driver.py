"""The driver actor: prepares a run, solves the allocation, coordinates the rounds and keeps everything on disk."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.methods import has_gradients
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.runs.summary import Summary

BREATH = 0.25  # seconds of rounds between two answers to the front end; rounds never wait for it


@dataclass(frozen=True)
class Briefing:
    """What the front end may tell the user before the first round."""

    notes: list[str]
    rounds_done: int
    folder: str
    machine: str  # that the folder is on


class Driver:
    """One run. `prepare` meets the user's mistakes before anything is written; then `advance` until it is empty."""

    def __init__(self, config: Config, folder: str, resume: bool):
        self.config = config
        self.folder = Path.home() / folder  # relative only if the front end is on another machine
        self.resume = resume

    def prepare(self) -> Briefing:
        """Start the client actors; one of them reads model and data for all. While they build their models, the
        allocation is solved here: this process needs no torch."""
        from zorba_ray.allocation import client_budgets
        from zorba_ray.runtime.launch import place
        from zorba_ray.runtime.pool import Pool

        budgets = client_budgets(self.config.clients, self.config.seed)
        self.placement = place(self.config, [int(budget) for budget in budgets.bytes])
        pool = Pool.launch(self.placement.slots, self.placement.start, self.config)

        from zorba_ray.runs.prepared import allocated
        from zorba_ray.runs.session import Session
        from zorba_ray.runtime.backend import RayBackend
        from zorba_ray.runtime.metrics import Metrics

        outline = pool.read()
        pool.setup(offloads=self._offloads())
        prepared = allocated(self.config, pool.base, outline, self.folder if self.resume else None)
        self.session = Session(self.config, prepared, self.folder, self.resume)
        if self.config.runtime.threads > 1:
            self.session.notes.append(
                f"runtime.threads={self.config.runtime.threads}: equal to other placements to rounding, not to the bit"
            )
        pool.ready(self.session.steps)
        drop = self.config.runtime.on_fault == "drop"
        batch = self.config.evaluation.batch
        self.backend = RayBackend(pool, lru_cache(prepared.cost), outline.test_examples, batch, drop)
        self.metrics = Metrics(self.config.name)
        self._events: Iterator[RoundRecord | EvaluationRecord | str] = self.session.events(self.backend)
        notes = [f"placement: {self.placement.reason}", *self.session.notes]
        return Briefing(notes, self.session.ledger.rounds, str(self.folder), platform.node())

    def _offloads(self) -> bool:
        """Whether a client on its own share of a GPU leaves full-precision blocks that it does not tune in host memory:
        to stream them, or because it keeps few bits of them. Gradients want all on the device."""
        model = self.config.model
        leaves = model.frozen == "offload" or (model.frozen in ("int8", "nf4") and model.trainable == "full")
        on_own_gpu = self.placement.device == "cuda" and self.placement.kind == "per_client"
        return on_own_gpu and leaves and not has_gradients(self.config)

    def advance(self) -> list[RoundRecord | EvaluationRecord | str]:
        """Rounds for a breath's time and what came of them; empty when the run is done."""
        until = time.perf_counter() + BREATH
        happened: list[RoundRecord | EvaluationRecord | str] = []
        with writing_to(self.folder):
            for event in self._events:
                happened.append(event)
                self.metrics.observe(event, self.session.statuses, len(self.backend.pool.faults))
                if time.perf_counter() > until:
                    break
        return happened

    def finish(
        self, interrupted: bool, stopped: str, seconds: float, report: Callable[[Path], object] | None = None
    ) -> Summary:
        """Close everything and write the summary; `report` then makes of the folder what people read."""
        from zorba_ray.runs.summary import environment

        self.session.notes += self.backend.pool.faults
        with writing_to(self.folder):
            summary = self.session.finish(
                placement=self.placement.kind,
                environment=environment(self.config.runtime.threads),
                model_sha256=self.backend.digest(),
                seconds=seconds,
                interrupted=interrupted,
                stopped=stopped,
            )
            if report is not None:
                report(self.folder)
        return summary


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """A full disk is the user's to mend: one line. What is in the ledger by then is whole."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder}: {error.strerror or error}; the rounds in its ledger are whole. Make room, then "
            f"go on by --resume {folder}"
        ) from None
