"""What a study shows while it goes: one moving line on a terminal, a line for each finished run elsewhere."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, flops, text_table
from zorba_ray.studies.cells import Cell, Run, final_runs, size_of, sweep_runs
from zorba_ray.studies.choose import Choice
from zorba_ray.studies.compute import Compute
from zorba_ray.studies.spec import Study
from zorba_ray.studies.store import Outcome, rounds_done
from zorba_ray.studies.watch import Far

SHOWN = 3  # runs under way that one line has room for


class Pace:
    """Time left, from the seconds a round that each arm's finished runs took; arms without one take the mean."""

    def __init__(self, study: Study, cells: Sequence[Cell], slots: int):
        self.slots = max(1, slots)
        self.left: dict[str, int] = {}  # rounds
        self.seen: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        for cell in cells:
            runs = [*sweep_runs(study, cell), *final_runs(study, cell, cell.rates[0])]
            self.left[cell.label] = sum(run.config.rounds for run in runs)

    def done(self, run: Run, seconds: float) -> None:
        spent, rounds = self.seen[run.cell.label]
        self.seen[run.cell.label] = (spent + seconds, rounds + run.config.rounds)

    def drop(self, run: Run) -> None:
        self.left[run.cell.label] -= run.config.rounds

    def give_up(self, cell: Cell) -> None:
        self.left[cell.label] = 0

    def seconds(self) -> float | None:
        """None before anything is known."""
        paces = {label: spent / rounds for label, (spent, rounds) in self.seen.items() if rounds}
        if not paces:
            return None
        mean = sum(paces.values()) / len(paces)
        return sum(rounds * paces.get(label, mean) for label, rounds in self.left.items()) / self.slots


class Board:
    """The watcher of a sitting. Use as a context manager: leaving it gives the terminal back."""

    def __init__(self, study: Study, cells: Sequence[Cell], slots: int, stream: TextIO | None = None):
        self.study, self.size = study, size_of(study, cells)
        self.pace = Pace(study, cells, slots)
        self._stream = stream or sys.stdout
        self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
        self._done = 0
        self._reasons: set[tuple[str, str]] = set()  # told once for each arm
        self._progress: Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            columns = TextColumn("{task.description}", style="bold"), BarColumn(24), TextColumn("{task.fields[state]}")
            self._progress = Progress(*columns, console=self._console, refresh_per_second=4)
            self._task = self._progress.add_task(study.name, total=self.size.runs, state="starting")

    def begin(self, cells: Sequence[Cell], folder: Path) -> None:
        size, self._folder = self.size, folder
        each = f"{len(cells)} arm" + "s" * (len(cells) != 1)
        if self.study.scale.key:
            each = f"{len(self.study.chosen)} arms × {len(self.study.settings)} values of {self.study.scale.key}"
        self._say(
            f"{each}: {size.sweeps} runs to choose learning rates, {size.finals} final runs, {size.rounds:,} rounds, "
            f"{self.pace.slots} at a time; in {folder}"
        )

    def done(self, run: Run, outcome: Outcome, again: bool) -> None:
        self._done += 1
        self.pace.drop(run)
        if outcome.status == "ok":
            self.pace.done(run, outcome.seconds)
        where = f"{run.cell.label}  {run.phase}  lr {run.rate:g}  seed {run.seed}"
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done)
        elif not again:
            took = f"{outcome.status} in {duration(outcome.seconds)}"
            self._say(f"{self._state()}  {where}  {took}")
        if outcome.status != "ok" and (run.cell.label, outcome.status) not in self._reasons:
            self._reasons.add((run.cell.label, outcome.status))
            self._say(f"  {run.cell.label}: {outcome.status}: {outcome.message.splitlines()[0]}")

    def under_way(self, runs: list[Run]) -> None:
        """On a terminal, how far each is."""
        if self._progress is not None and runs:
            each = [f"{run.cell.label} {rounds_done(self._folder / run.folder)}/{run.config.rounds}" for run in runs]
            more = f" and {len(each) - SHOWN} more" if len(each) > SHOWN else ""
            self._progress.update(self._task, state=f"{self._state()}  {', '.join(each[:SHOWN])}{more}")

    def chosen(self, cell: Cell, choice: Choice | None) -> None:
        if choice is None:
            self.pace.give_up(cell)
            self.size = type(self.size)(self.size.sweeps, self.size.finals - len(self.study.seeds), self.size.rounds)
            if self._progress is not None:
                self._progress.update(self._task, total=self.size.runs)
            self._say(f"  {cell.label}: no learning rate worked, so no final runs")
            return
        edge = f", the {choice.edge} that was tried" if choice.edge else ""
        self._say(f"  {cell.label}: learning rate {choice.rate:g}{edge}")

    def _state(self) -> str:
        left = self.pace.seconds()
        told = f"about {duration(left)} left" if left else ("" if self._done == self.size.runs else "time left unknown")
        return f"{self._done}/{self.size.runs}  {told}".rstrip()

    def _say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, markup=False)
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)

    def __enter__(self) -> Board:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def watch_text(found: Sequence[Far]) -> str:
    """What --watch shows: a line for each cell."""
    head = ["Arm", "Sweep", "Rate", "Final", "Under way"]
    rows = []
    for each in found:
        going = [f"{run.phase} lr {run.rate:g} seed {run.seed}: {done}/{run.config.rounds}"
                 for run, done in each.under_way]  # fmt: skip
        over = each.rate is None and each.sweep[0] == each.sweep[1]
        rate = f"{each.rate:g}" if each.rate is not None else "none worked" if over else ""
        counts = ["/".join(map(str, pair)) if pair[1] else "" for pair in (each.sweep, each.finals)]
        rows.append([each.cell.label, counts[0], rate, counts[1], ", ".join(going)])
    return text_table(head, rows)


def plan_lines(study: Study, cells: Sequence[Cell]) -> list[str]:
    """What --plan prints: a line for each arm, then the sum."""
    lines = []
    for cell in cells:
        sweep, finals = sweep_runs(study, cell), final_runs(study, cell, cell.rates[0])
        tuned = f"{len(sweep)} rates × {sweep[0].config.rounds} rounds, " if sweep else f"rate {cell.rates[0]:g}, "
        rates = ", ".join(f"{rate:g}" for rate in cell.rates)
        budgets = "  (budgets lifted)" if cell.arm.lifted else ""
        rounds = finals[0].config.rounds
        lines.append(f"{cell.label}: {tuned}{len(finals)} seeds × {rounds} rounds; rates {rates}{budgets}")
    size = size_of(study, cells)
    return [*lines, f"{size.runs} runs, {size.rounds:,} rounds"]


def compute_lines(rows: Sequence[Compute]) -> list[str]:
    """What a study will take, a line for each arm and the sum; why, of arms that could not be tried."""
    tried = [row for row in rows if not row.why]
    whole = Compute(
        "all", sum(row.runs for row in rows), sum(row.rounds for row in rows), sum(row.client_rounds for row in rows),
        sum(row.flops for row in tried), sum(row.core_seconds for row in tried), sum(row.disk for row in tried),
    )  # fmt: skip
    head = ["Arm", "Runs", "Rounds", "Client-rounds", "FLOPs", "Core-hours", "Disk, at most"]
    told = [
        [row.label, f"{row.runs:,}", f"{row.rounds:,}", f"{row.client_rounds:,}",
         *(["–"] * 3 if row.why else [flops(row.flops), core_hours(row.core_seconds), format_bytes(row.disk)])]
        for row in [*rows, whole]
    ]  # fmt: skip
    lines = [text_table(head, told), *(f"{row.label}: {row.why}" for row in rows if row.why)]
    without = f"; the sum is without {len(rows) - len(tried)} of {len(rows)} arms" * (len(tried) < len(rows))
    return [*lines, f"By one client of each arm, tried on a core of this machine{without}."]


def core_hours(seconds: float) -> str:
    return f"{seconds / 3600:.2g}"
