"""The runs of a study on a cluster: sweeps first, an arm's final runs as soon as its rate is chosen.

A *seat* is a quota of the cluster with a driver in it, that carries one run after the other. There are as many as the
cluster has room for now. A seat that was lost is made anew, and its run goes on from where its ledger ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.runtime.quota import wanted
from zorba_ray.studies.carry import LOST, carry
from zorba_ray.studies.cells import Cell, Run, final_runs, sweep_runs
from zorba_ray.studies.choose import Choice
from zorba_ray.studies.spec import Study
from zorba_ray.studies.store import Outcome, choice_of, keep, outcome_of, rounds_done

TRIES = 2  # times that a run may be lost without having come further, after which it is recorded as failed
GLANCE = 1.0  # seconds between two looks at how far runs are, and at whether there is room for more


class Watcher(Protocol):
    """Is told what happens."""

    def done(self, run: Run, outcome: Outcome, again: bool) -> None:
        """A run is finished; `again`: it was so already in an earlier sitting."""

    def chosen(self, cell: Cell, choice: Choice | None) -> None:
        """The sweep of a cell is finished; None: none of its rates worked."""

    def under_way(self, runs: list[Run]) -> None:
        """These are being carried out now."""


class Carrier:
    """The process of a seat: what it and its client actors have imported, all of its runs have."""

    def __init__(self) -> None:
        from zorba_ray.runtime.warm import Warm

        self.warm = Warm()

    def carry(self, config: Config, folder: str) -> Outcome:
        return carry(config, Path(folder), self.warm)


@dataclass
class Seat:
    """`reference`: to its group's readiness, then to the answer of its carrier. `run`: what it carries now."""

    group: Any
    reference: Any
    carrier: Any = None
    run: Run | None = None

    @classmethod
    def taken(cls, study: Study) -> Seat:
        """As soon as the cluster has room."""
        room = wanted(study.cpus, study.gpus)
        group = placement_group(room.bundles, strategy="PACK", bundle_label_selector=room.labels)
        return cls(group, group.ready())

    def begin(self, run: Run, folder: Path) -> None:
        if self.carrier is None:
            there = PlacementGroupSchedulingStrategy(self.group, 0)
            self.carrier = ray.remote(Carrier).options(num_cpus=0, scheduling_strategy=there).remote()
        self.run, self.reference = run, self.carrier.carry.remote(run.config, str((folder / run.folder).absolute()))

    def leave(self) -> None:
        if self.carrier is not None:
            ray.kill(self.carrier)  # its client actors, which it owns, end with it
        remove_placement_group(self.group)


@dataclass
class Sitting:
    """Carries out what is not yet done of a study. State is in the folder; this only knows what is under way."""

    study: Study
    folder: Path
    watcher: Watcher
    waiting: deque[Run] = field(default_factory=deque)
    seats: list[Seat] = field(default_factory=list)
    losses: dict[Path, tuple[int, int]] = field(default_factory=dict)  # of a run: how often, after how many rounds

    def carry_out(self, cells: Iterable[Cell]) -> None:
        """Everything, in the order in which runs finish. One run of every cell is begun first: that tells the pace."""
        cells = list(cells)
        self.open = {id(cell): {run.rate: run for run in sweep_runs(self.study, cell)} for cell in cells}
        try:
            self.plan(cells)
            while self.waiting or self.seats:
                self.look()
        finally:
            for seat in self.seats:
                seat.leave()

    def plan(self, cells: list[Cell]) -> None:
        """The sweeps, cell by cell in turn; final runs of cells whose rate is known."""
        if self.study.tuning.by == "tune":
            for cell in cells:
                choice = choice_of(self.study, cell, self.folder)
                self.watcher.chosen(cell, choice)
                if choice is not None:
                    self.finals(cell, choice)
            return
        sweeps = [list(self.open[id(cell)].values()) for cell in cells]
        for i in range(max(map(len, sweeps), default=0)):
            for runs in sweeps:
                if i < len(runs):
                    self.begin(runs[i])
        for cell in cells:
            if not sweep_runs(self.study, cell):
                self.finals(cell, Choice(cell.rates[0], ""))

    def look(self) -> None:
        """Take the room that there is, and attend to whoever has something to tell."""
        busy = sum(seat.run is not None for seat in self.seats)
        for _ in range(min(room(self.study), busy + len(self.waiting)) - len(self.seats)):
            self.seats.append(Seat.taken(self.study))
        seats = {seat.reference: seat for seat in self.seats}
        told, _ = ray.wait(list(seats), num_returns=1, timeout=GLANCE)
        for reference in told:
            self.attend(seats[reference])
        self.watcher.under_way([seat.run for seat in self.seats if seat.run is not None])

    def attend(self, seat: Seat) -> None:
        """A seat has its room, or its run has ended, well or not: the next one, if there is any."""
        run, seat.run = seat.run, None
        try:
            outcome = ray.get(seat.reference)
        except ray.exceptions.RayError as error:
            outcome = Outcome(LOST, f"its process died: {str(error).splitlines()[0]}", 0.0)
        if run is not None:
            self.finish(run, outcome)
        lost = isinstance(outcome, Outcome) and outcome.status == LOST
        if lost or not self.waiting:
            seat.leave()
            self.seats.remove(seat)
        else:
            seat.begin(self.waiting.popleft(), self.folder)

    def begin(self, run: Run) -> None:
        """A run is to be done, unless it is done already."""
        earlier = outcome_of(run, self.folder)
        if earlier is not None:
            self.settle(run, earlier, again=True)
        else:
            self.waiting.append(run)

    def finish(self, run: Run, outcome: Outcome) -> None:
        """What came of a run; one that was lost goes on before others begin, unless it has come no further again."""
        if outcome.status == LOST:
            count, before = self.losses.get(run.folder, (0, -1))
            done = rounds_done(self.folder / run.folder)
            count = 1 if done > before else count + 1
            self.losses[run.folder] = count, done
            if count < TRIES:
                self.waiting.appendleft(run)
                return
            outcome = Outcome("failed", f"lost {count} times after round {done}, at last: {outcome.message}", 0.0)
        self.settle(run, keep(run, outcome, self.folder), again=False)

    def settle(self, run: Run, outcome: Outcome, again: bool) -> None:
        """Tell, and go on to the final runs once the last of a sweep is in."""
        self.watcher.done(run, outcome, again)
        if run.phase == "final":
            return
        missing = self.open[id(run.cell)]
        del missing[run.rate]
        if not missing:
            choice = choice_of(self.study, run.cell, self.folder)
            self.watcher.chosen(run.cell, choice)
            if choice is not None:
                self.finals(run.cell, choice)

    def finals(self, cell: Cell, choice: Choice) -> None:
        for run in final_runs(self.study, cell, choice.rate):
            self.begin(run)


def room(study: Study) -> int:
    """Runs that the cluster as it is now carries at once; one in any case, for which room may come."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    amounts = (("CPU", study.cpus), ("GPU", study.gpus))
    return max(1, min(int(resources.get(name, 0.0) / each + 1e-6) for name, each in amounts if each > 0))


def slots(study: Study) -> int:
    """Runs that the cluster carries at once; ConfigError where one takes more than there is."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if study.cpus > resources.get("CPU", 0) or study.gpus > resources.get("GPU", 0):
        raise ConfigError(
            f"a run takes {study.cpus:g} CPUs and {study.gpus:g} GPUs, and the whole cluster has "
            f"{resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}; lower cpus or gpus of the study"
        )
    return room(study)
