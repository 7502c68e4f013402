"""A run put together once: prepared, its folder opened, its clients carried somewhere, its end written down.

Where clients compute is a *site*: this process (`Here`), or actors on Ray (`runtime.driver`). The command, the API,
studies, tests and benchmarks all come in by this door.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from zorba_ray.allocation import Plan
from zorba_ray.config.environment import written
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger.snapshot import Snapshot, read_snapshots
from zorba_ray.messages import Step
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.rounds.local import LocalBackend
from zorba_ray.rounds.loop import Backend
from zorba_ray.runs.checkpoints import is_due, keep
from zorba_ray.runs.folder import Claim, claim_folder, writing_to
from zorba_ray.runs.memory import ClassMemory
from zorba_ray.runs.prepared import Outline, Prepared, allocated
from zorba_ray.runs.resume import flat, keep_config
from zorba_ray.runs.rewind import Rewound, earlier
from zorba_ray.runs.session import Session
from zorba_ray.runs.summary import Summary, cpu_model, environment
from zorba_ray.tracking import Begun, Trackers, refuse_absent
from zorba_ray.world.world import Diverged

BREATH = 0.25  # seconds of rounds between two answers to the front end; rounds never wait for it

Event = RoundRecord | EvaluationRecord | str
Snapshots = Callable[[], Iterable[Snapshot]]  # those that lie on the run's ledger, the newest first


class Carrier(Backend, Protocol):
    """The loop's backend, that also says which weights it has come to."""

    def digest(self) -> str: ...


class Site(Protocol):
    """Where a run's clients are carried. `kind` is the placement as it came out."""

    kind: str
    threads: int
    device: str  # cpu or cuda

    def read(self, config: Config) -> tuple[Any, Outline]:
        """Model and data: the base, or a reference to it, and what the driver must know of it."""

    def ready(self, prepared: Prepared, steps: Sequence[Step], snapshots: Snapshots) -> Carrier:
        """Clients at the weights to which the ledger's steps lead, from a snapshot on if there is one."""

    def snapshot(self) -> Snapshot | None:
        """The current weights; None where nobody can tell."""

    def memory(self, prepared: Prepared, plan: Plan) -> list[ClassMemory]:
        """What the clients of each budget class hold under a plan, predicted and traced."""

    def hardware(self) -> dict[str, Any]:
        """The kinds of GPUs, the machines with their processors and, where there are any, their actors."""

    def faults(self) -> Sequence[str]:
        """What died or raised so far."""


@dataclass
class Here:
    """This process, for as long as the run takes on so many of torch's threads."""

    device: str = "cpu"
    threads: int = 1
    backend: Callable[[Any, int], Carrier] = LocalBackend
    kind: str = "in process"
    host: Any = None  # once it is ready

    def read(self, config: Config) -> tuple[Any, Outline]:
        import torch

        from zorba_ray.runs.prepare import read

        torch.set_num_threads(self.threads)
        return read(config)

    def ready(self, prepared: Prepared, steps: Sequence[Step], snapshots: Snapshots) -> Carrier:
        import torch

        from zorba_ray.runs.prepare import build_host

        torch.set_num_threads(self.threads)
        self.host = host = build_host(prepared.base, self.device)
        for kept in snapshots():
            if host.adopt(kept.vectors, kept.rounds, kept.sha256):
                break
        host.catch_up(steps, os.cpu_count() or 1)
        return self.backend(host, prepared.test_examples)

    def snapshot(self) -> Snapshot | None:
        return Snapshot(self.host.rounds, self.host.vectors(), self.host.digest())

    def memory(self, prepared: Prepared, plan: Plan) -> list[ClassMemory]:
        from zorba_ray.runs.memory import memory_by_class

        instance, host = prepared.outline.instance, self.host
        return memory_by_class(host.config, instance, plan, host.model, host.task.max_tokens)

    def hardware(self) -> dict[str, Any]:
        import torch

        gpus = [torch.cuda.get_device_name()] if self.device == "cuda" else []
        return {"gpus": gpus, "machines": {platform.node(): cpu_model()}}

    def faults(self) -> Sequence[str]:
        return ()


def begin(config: Config, folder: Path, resume: bool, site: Site, claim: Claim | None = None) -> Simulation:
    """Everything before the first round. The folder is this process's own (`claim`, made here if need be) before
    anything expensive; of a mistake of the user's, nothing stays in it. What lies there is read before the model:
    client actors import their libraries meanwhile."""
    claim = claim or claim_folder(config, folder, resume)
    try:
        refuse_absent(config.tracking)
        with writing_to(claim.folder):
            done = earlier(claim.folder, config)
        base, outline = site.read(config)
        with writing_to(claim.folder):
            prepared = allocated(config, base, outline, claim.folder if resume else None)
            simulation = Simulation(prepared, claim, site, done)
            if resume:
                keep_config(config, claim.folder)
            return simulation
    except BaseException:
        claim.abandon()
        raise


class Simulation:
    """A run under way. Take `events` one by one, or `advance` until it is empty; `finish` always."""

    def __init__(self, prepared: Prepared, claim: Claim, site: Site, done: Rewound | None = None):
        self.started = time.perf_counter()
        self.folder, self.site = claim.folder, site
        self.session = Session(prepared.config, prepared, claim, done)
        self.failed = False
        snapshots = partial(read_snapshots, self.folder, self.session.ledger.seals)  # which grow
        self.backend = site.ready(prepared, self.session.steps, snapshots)
        values = {name: str(written(value)) for name, value in flat(prepared.config)}
        name, own = self.folder.name, prepared.config.name
        title = name if prepared.config.out or name.startswith(own) else f"{own}-{name}"  # a study's folder is an arm's
        begun = Begun(title, self.folder, values, self.session.ledger.rounds)
        self.trackers = Trackers(prepared.config.tracking, begun)
        self.events: Iterator[Event] = self._tracked(self.session.events(self.backend))

    def _tracked(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events, told to the trackers on their way."""
        for event in events:
            failures = [] if isinstance(event, str) else self.trackers.told(event)
            yield event
            self.session.notes += failures
            yield from failures

    def advance(self) -> list[Event]:
        """Rounds for a breath's time and what came of them; empty when the run is done. Weights are kept on the way."""
        until = time.perf_counter() + BREATH
        happened: list[Event] = []
        try:
            with writing_to(self.folder):
                for event in self.events:
                    happened.append(event)
                    if isinstance(event, RoundRecord) and is_due(self.session.config, event.round + 1):
                        keep(self.session.config, self.folder, self.session.ledger.seal, self.site.snapshot)
                    if time.perf_counter() > until:
                        break
        except Diverged:
            raise
        except Exception:
            self.failed = True
            raise
        return happened

    def finish(
        self,
        interrupted: bool = False,
        stopped: str = "",
        seconds: float | None = None,
        report: Callable[[Path], object] | None = None,
    ) -> Summary:
        """Close everything and write the summary; `report` then makes of the folder what people read. `stopped` says
        why a run ended early by itself, `seconds` how long all of it took where that began before this object. Clients
        that failed are not asked for their weights."""
        self.session.notes += [*self.site.faults(), *self.trackers.close()]
        with writing_to(self.folder):
            return self.session.finish(
                placement=self.site.kind,
                environment=environment(self.site.threads, self.site.device) | self.site.hardware(),
                digest=None if self.failed else self.backend.digest,
                seconds=time.perf_counter() - self.started if seconds is None else seconds,
                interrupted=interrupted,
                stopped=stopped,
                report=report,
                memory=None if self.failed or interrupted else partial(self.site.memory, self.session.prepared),
            )


def simulate(config: Config, folder: Path, site: Site | None = None, resume: bool = False) -> Summary:
    """A whole run, or what is left of one. One that goes wrong on its way is summarised, then raises."""
    simulation = begin(config, folder, resume, site or Here())
    try:
        for _ in simulation.events:
            pass
    except ConfigError as error:
        simulation.finish(stopped=str(error))
        raise
    return simulation.finish()
