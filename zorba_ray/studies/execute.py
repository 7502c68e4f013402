"""The runs of a study as Ray tasks: sweeps first, an arm's final runs as soon as its rate is chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ray

from zorba_ray.config.errors import ConfigError
from zorba_ray.studies.carry import Carried, carry
from zorba_ray.studies.cells import Cell, Run, final_runs, sweep_runs
from zorba_ray.studies.choose import Choice
from zorba_ray.studies.spec import Study
from zorba_ray.studies.store import Outcome, choice_of, keep, outcome_of

TRIES = 2  # after which a run whose process died (memory, a lost node) is recorded as failed


class Watcher(Protocol):
    """Is told what happens."""

    def done(self, run: Run, outcome: Outcome, again: bool) -> None:
        """A run is finished; `again`: it was so already in an earlier sitting."""

    def chosen(self, cell: Cell, choice: Choice | None) -> None:
        """The sweep of a cell is finished; None: none of its rates worked."""


@dataclass
class Sitting:
    """Carries out what is not yet done of a study. State is in the folder; this only knows what is under way."""

    study: Study
    folder: Path
    watcher: Watcher
    waiting: dict[Any, Run] = field(default_factory=dict)  # by the task's reference
    deaths: dict[Path, int] = field(default_factory=dict)

    def carry_out(self, cells: Iterable[Cell]) -> None:
        """Everything, in the order in which tasks finish. One run of every cell is begun first: that tells the pace."""
        cells = list(cells)
        self.open = {id(cell): {run.rate: run for run in sweep_runs(self.study, cell)} for cell in cells}
        sweeps = [list(self.open[id(cell)].values()) for cell in cells]
        longest = max(map(len, sweeps), default=0)
        for i in range(longest):
            for runs in sweeps:
                if i < len(runs):
                    self.begin(runs[i])
        for cell in cells:
            if not sweep_runs(self.study, cell):
                self.finals(cell, Choice(cell.rates[0], ""))
        while self.waiting:
            (reference,), _ = ray.wait(list(self.waiting), num_returns=1)
            self.finish(reference)

    def begin(self, run: Run) -> None:
        """Start a run, unless it is done already."""
        earlier = outcome_of(run, self.folder)
        if earlier is not None:
            self.settle(run, earlier, again=True)
            return
        task = ray.remote(carry).options(num_cpus=self.study.cpus, num_gpus=self.study.gpus, max_retries=0)
        device, name = "cuda" if self.study.gpus else "cpu", "-".join(run.folder.parts[1:])
        self.waiting[task.remote(run.config, device, name)] = run

    def finish(self, reference: Any) -> None:
        """A task has ended, well or not."""
        run = self.waiting.pop(reference)
        try:
            carried = ray.get(reference)
        except ray.exceptions.RayError as error:
            self.deaths[run.folder] = self.deaths.get(run.folder, 0) + 1
            if self.deaths[run.folder] < TRIES:
                self.begin(run)
                return
            carried = Carried("failed", f"its process died {TRIES} times: {str(error).splitlines()[0]}", 0.0, {})
        self.settle(run, keep(run, carried, self.folder), again=False)

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


def slots(study: Study) -> int:
    """Runs that the cluster carries at once."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    room = [resources.get(name, 0.0) / each for name, each in (("CPU", study.cpus), ("GPU", study.gpus)) if each > 0]
    most = int(min(room, default=1.0))
    if most < 1:
        raise ConfigError(
            f"a run takes {study.cpus:g} CPUs and {study.gpus:g} GPUs, and the whole cluster has "
            f"{resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}; lower cpus or gpus of the study"
        )
    return most
