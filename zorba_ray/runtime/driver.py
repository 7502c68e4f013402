"""The driver actor: places a run's clients on Ray, coordinates the rounds and keeps everything on disk."""

from __future__ import annotations

import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import ray

from zorba_ray.config.schema import Config
from zorba_ray.methods import has_gradients
from zorba_ray.runtime.news import Bulletin, News, Progress
from zorba_ray.runtime.waiting import Watch

if TYPE_CHECKING:  # the rest is imported while the actors start
    from zorba_ray.allocation import Plan
    from zorba_ray.ledger.snapshot import Snapshot
    from zorba_ray.messages import Step
    from zorba_ray.runs.memory import ClassMemory
    from zorba_ray.runs.prepared import Outline, Prepared
    from zorba_ray.runs.simulate import Event, Snapshots
    from zorba_ray.runs.summary import Summary
    from zorba_ray.runtime.backend import RayBackend
    from zorba_ray.runtime.warm import Warm

LISTENING = "listening"  # a thread of its own, so that the driver answers while it works


@dataclass(frozen=True)
class Briefing:
    """What the front end may tell the user before the first round."""

    notes: list[str]
    rounds_done: int
    folder: str
    machine: str  # that the folder is on


class OnRay:
    """The site of a run whose clients are actors; one of them reads model and data for all. While they build their
    models, the allocation is solved: this process needs no torch."""

    def __init__(self, config: Config, folder: Path, watch: Watch, warm: Warm | None = None):
        from zorba_ray.allocation import client_budgets
        from zorba_ray.runtime.launch import place
        from zorba_ray.runtime.pool import Pool

        budgets = client_budgets(config.clients, config.seed)
        self.config, self.folder, self.watch = config, folder, watch
        watch.news.enter("placing the clients")
        self.placement = place(config, [int(budget) for budget in budgets.bytes], watch)
        self.reason = self.placement.reason
        if self.placement.kind == "per_client":  # nobody is beside a client, should it be left to us
            config = replace(config, clients=replace(config.clients, fuse="1"))
        self.kind, self.threads, self.device = self.placement.kind, config.runtime.threads, self.placement.device
        start = warm.starter(self.placement, self.threads) if warm is not None else self.placement.start
        self.pool = Pool.launch(self.placement.slots, start, config, watch)

    def read(self, config: Config) -> tuple[Any, Outline]:
        from zorba_ray.runtime.hosting import actor_bytes, fit

        outline = self.pool.read()
        if self.placement.device == "cpu" and not config.runtime.actors:
            self.reason += fit(self.pool, actor_bytes(outline, config.runtime))
        self.watch.news.enter("solving the allocation")
        self.pool.setup(offloads=self._offloads())
        return self.pool.base, outline

    def ready(self, prepared: Prepared, steps: Sequence[Step], snapshots: Snapshots) -> RayBackend:
        from zorba_ray.methods.fit import fused
        from zorba_ray.runtime.backend import RayBackend

        self.pool.snapshots = snapshots
        self.pool.ready(steps)
        drop = self.config.runtime.on_fault == "drop"
        batch = self.config.evaluation.batch
        cost, fuse = cache(prepared.cost), fused(prepared.config)
        return RayBackend(self.pool, cost, prepared.test_examples, batch, drop, fuse)

    def memory(self, prepared: Prepared, plan: Plan) -> list[ClassMemory]:
        work = [(self.pool.members[0], (prepared.outline.instance, plan))]
        (rows,) = self.pool.run("memory", work, what="tracing what clients hold")
        return cast("list[ClassMemory]", rows)

    def hardware(self) -> dict[str, Any]:
        standings = [member.standing for member in self.pool.members]
        return {
            "gpus": sorted({gpu.name for gpu in self.placement.gpus}),
            "machines": dict(sorted({(each.machine, each.cpu) for each in standings})),
            "actors": dict(sorted(Counter(each.machine for each in standings).items())),
        }

    def faults(self) -> Sequence[str]:
        return self.pool.faults

    def snapshot(self) -> Snapshot | None:
        """The weights after the rounds so far, from an actor that is well."""
        from zorba_ray.ledger.snapshot import Snapshot

        self.watch.news.enter(f"keeping the weights of round {len(self.pool.steps)}")
        current = self.pool.weights()
        return None if current is None else Snapshot(current[0], ray.get(current[1]), current[2])

    def _offloads(self) -> bool:
        """Whether a client on its own share of a GPU leaves weights in host memory: to stream them, or because it keeps
        few bits of them. Gradients want all on the device."""
        model = self.config.model
        leaves = "offload" in (model.frozen, model.active) or (
            model.frozen in ("int8", "nf4") and model.trainable == "full"
        )
        on_own_gpu = self.placement.device == "cuda" and self.placement.kind == "per_client"
        return on_own_gpu and leaves and not has_gradients(self.config)


class Driver:
    """One run. `prepare` meets the user's mistakes before anything is written; then `advance` until it is empty."""

    def __init__(self, config: Config, folder: str, resume: bool, warm: Warm | None = None):
        """`warm`: client actors of runs before this one on the same quota."""
        self.config, self.warm = config, warm
        self.folder = Path.home() / folder  # relative only if the front end is on another machine
        self.resume = resume
        self.asked_to_stop = False
        self.done, self.loss, self.accuracy = 0, math.nan, math.nan
        self.watch = Watch(News("starting the driver"), config.runtime.patience)
        self.begun = ExitStack()  # what is to be let go of

    @ray.method(concurrency_group=LISTENING)
    def news(self) -> Bulletin:
        """What it does now, and what it has to say; answered while another call is under way."""
        return self.watch.news.bulletin()

    @ray.method(concurrency_group=LISTENING)
    def progress(self) -> Progress:
        """For `zorba-ray attach`; answered while another call is under way, and told to as many as ask."""
        return Progress(
            str(self.folder), platform.node(), self.watch.news.stage, self.done, self.config.rounds, self.loss,
            self.accuracy,
        )  # fmt: skip

    @ray.method(concurrency_group=LISTENING)
    def halt(self, seconds: float) -> None:
        """In so many seconds the round under way, unless it is done, is left."""
        self.watch.halt_at = time.monotonic() + seconds

    def stop(self) -> None:
        """End after this round, as Ctrl-C in the front end would (`zorba-ray stop`)."""
        self.asked_to_stop = True

    def prepare(self) -> Briefing:
        """Claim the folder, then start the client actors: this process imports what it needs while they do."""
        from zorba_ray.runs.folder import claim_folder

        claim = claim_folder(self.config, self.folder, self.resume)
        self.folder = claim.folder
        try:
            self.site = OnRay(self.config, self.folder, self.watch, self.warm)
        except BaseException:
            claim.abandon()
            raise
        self.begun.callback(self.release)

        from zorba_ray.runs.simulate import begin
        from zorba_ray.runtime.metrics import Metrics

        self.simulation = begin(self.config, self.folder, self.resume, self.site, claim)
        self.session, self.backend = self.simulation.session, self.simulation.backend
        self.begun.callback(self.session.close)
        threads = self.config.runtime.threads
        if threads > 1:
            self.session.notes.append(
                f"runtime.threads={threads}: equal to other placements to rounding, not to the bit"
            )
        self.metrics = Metrics(self.config.name)
        notes = [*self.watch.news.take(), f"placement: {self.site.reason}", *self.session.notes]
        return Briefing(notes, self.session.ledger.rounds, str(self.folder), platform.node())

    def advance(self) -> list[Event]:
        """Rounds for a breath's time and what came of them; empty when the run is done."""
        from zorba_ray.records.schema import EvaluationRecord, RoundRecord

        happened = [] if self.asked_to_stop else self.simulation.advance()
        for event in happened:
            self.metrics.observe(event, self.session.statuses, len(self.site.faults()))
            if isinstance(event, RoundRecord):
                self.loss = event.loss
            elif isinstance(event, EvaluationRecord):
                self.accuracy = event.accuracy
        self.done = self.session.ledger.rounds
        return [*self.watch.news.take(), *happened] if happened else []

    def finish(
        self, interrupted: bool, stopped: str, seconds: float, report: Callable[[Path], object] | None = None
    ) -> Summary:
        """Close everything and write the summary; `report` then makes of the folder what people read."""
        return self.simulation.finish(interrupted or self.asked_to_stop, stopped, seconds, report)

    def leave(self) -> None:
        """Let go of the folder, if that was not done, and of the client actors, which go to the next run on the same
        quota or end."""
        self.begun.close()

    def release(self) -> None:
        if self.warm is not None:
            self.warm.keep(self.site.pool)
            return
        for member in self.site.pool.members:
            ray.kill(member.actor)
