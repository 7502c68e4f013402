"""What a run shows while it goes: a live line on a terminal, plain lines everywhere else.

On a terminal one bar moves: rounds, loss with a sparkline, test accuracy, bytes, time left. Elsewhere (a file, a pipe,
a notebook) a line is printed every few rounds, so that a log stays short.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, percent
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.runs.folder import resume_line
from zorba_ray.runs.summary import Summary

BARS = "▁▂▃▄▅▆▇█"
PLAIN_LINES = 20  # about how many lines a run prints where there is no terminal
ENOUGH = 3  # rounds, before anything is said of those to come
RECENT = 30  # rounds whose median length is that of those to come


class State(ProgressColumn):
    """What the display says beside its bar, anew at every refresh: a clock goes on while nothing happens."""

    def __init__(self, text: Callable[[], str]):
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text())


class Display:
    """Told what happens, shows it. Use as a context manager: leaving it always gives the terminal back."""

    def __init__(self, total_rounds: int, name: str, stream: TextIO | None = None):
        self._total, self._name, self._done = total_rounds, name, 0
        self._start, self._first = time.monotonic(), 0
        self._running = False  # rounds have begun
        self._stage, self._entered = "starting", time.monotonic()
        self._seconds: deque[float] = deque(maxlen=RECENT)  # of rounds
        self._evaluations: deque[float] = deque(maxlen=RECENT)
        self._told = time.monotonic()  # when something last happened
        self._losses: list[float] = []
        self._accuracy: float | None = None
        self._evaluated = 0
        self._up = self._down = 0
        self._stream = stream or sys.stdout
        self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
        self._every = max(1, total_rounds // PLAIN_LINES)
        self._progress: Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            columns = TextColumn("{task.description}", style="bold"), BarColumn(24), State(self._live_state)
            self._progress = Progress(*columns, console=self._console, refresh_per_second=4)
            self._task = self._progress.add_task(escape(name), total=total_rounds)

    def begin(self, done: int) -> None:
        """Rounds start now; `done` of them were done in earlier sittings."""
        self._done = self._first = done
        self._start = self._told = time.monotonic()
        self._stage, self._running = "", True
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def stage(self, name: str) -> None:
        """What is under way now, until the next stage or a round's end. In a log, a line where it is no round."""
        if name == self._stage:
            return
        self._stage, self._entered = name, time.monotonic()
        if self._progress is None and not self._running and not name.startswith("replaying"):
            self._print(f"{name} …")

    def note(self, text: str) -> None:
        """One line that stays."""
        if self._progress is None:
            self._print(text)
        else:
            self._progress.console.print(text, markup=False)

    def event(self, record: RoundRecord | EvaluationRecord | str) -> None:
        """Whatever a run yields."""
        if isinstance(record, str):
            self.note(record)
        elif isinstance(record, RoundRecord):
            self.round(record)
        else:
            self.evaluation(record)

    def round(self, record: RoundRecord) -> None:
        self._done, self._stage = record.round + 1, ""
        self._seconds.append(record.seconds)
        self._told = time.monotonic()
        self._losses.append(record.loss)
        self._up += record.bytes_up
        self._down += record.bytes_down
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done)
        elif self._done % self._every == 0 or self._done == self._total:
            cost = f"up {format_bytes(self._up)}  down {format_bytes(self._down)}  {self._left()}"
            loss = "nobody reported" if math.isnan(record.loss) else f"loss {record.loss:.4f}"
            self._print(f"round {self._done}/{self._total}  {loss}  {cost}")

    def evaluation(self, record: EvaluationRecord) -> None:
        due = self._accuracy is None or record.round - self._evaluated >= self._every or record.round == self._total
        self._accuracy, self._stage = record.accuracy, ""
        if record.round > self._first:  # the first one is slow: everything is done for the first time
            self._evaluations.append(time.monotonic() - self._told)
        self._told = time.monotonic()
        if self._progress is None and due:
            self._evaluated = record.round
            result = f"test accuracy {percent(record.accuracy)}  test loss {record.loss:.4f}"
            result += "" if record.score is None else f"  score {percent(record.score)}"
            self._print(f"round {record.round}/{self._total}  {result}")

    def finish(self, summary: Summary, run_dir: Path) -> None:
        """The last lines: what came out, and where it is."""
        self._close()
        for line in last_lines(summary, run_dir):
            self._print(line)

    def __enter__(self) -> Display:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _live_state(self) -> str:
        """Ordered by what is missed least when a narrow terminal cuts the end."""
        parts = [f"{self._done}/{self._total}"]
        if self._stage:
            parts.append(f"{self._stage} {duration(time.monotonic() - self._entered)}")
        if self._losses:
            parts.append(f"loss {self._losses[-1]:.4f} {sparkline(self._losses, 12)}")
        if self._accuracy is not None:
            parts.append(f"accuracy {percent(self._accuracy)}")
        return "  ".join([*parts, self._left(), f"↑{format_bytes(self._up)} ↓{format_bytes(self._down)}"])

    def _left(self) -> str:
        """Time left: rounds and evaluations to come take as long as those of this sitting did in the median. Of the
        first rounds, which are slow, nothing is told."""
        rounds, to_come = self._done - self._first, self._total - self._done
        if rounds < ENOUGH or not to_come:
            return f"{duration(time.monotonic() - self._start)}"
        evaluations = len(self._evaluations) * to_come / max(rounds, 1)
        left = to_come * median(self._seconds) + evaluations * median(self._evaluations or [0.0])
        return f"{duration(left)} left"

    def _print(self, text: str) -> None:
        """As it is: no markup, and nothing that the stream's encoding cannot say."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)


def last_lines(summary: Summary, run_dir: Path) -> list[str]:
    """First → last accuracy, cost, and where things are."""
    lines = []
    if summary.stopped:
        lines.append(f"Stopped after {summary.rounds_done} of {summary.rounds} rounds: {summary.stopped}")
    elif summary.interrupted:
        lines.append(f"Interrupted after {summary.rounds_done} of {summary.rounds} rounds; everything so far is kept.")
    if summary.accuracy_first is not None and summary.accuracy_last is not None:
        gain = 100 * (summary.accuracy_last - summary.accuracy_first)
        lines.append(
            f"Test accuracy {percent(summary.accuracy_first)} → {percent(summary.accuracy_last)}  ({gain:+.1f} points) "
            f"in {summary.rounds_done} rounds, {summary.clients} clients, {duration(summary.seconds)}"
        )
    if summary.client_accuracy is not None and summary.client_accuracy_worst is not None:
        worst = percent(summary.client_accuracy_worst)
        lines.append(f"On data like each client's own {percent(summary.client_accuracy)}, worst tenth {worst}")
    if summary.test_loss_first is not None and summary.test_loss_last is not None:
        lines.append(f"Test loss {summary.test_loss_first:.4f} → {summary.test_loss_last:.4f}")
    if summary.virtual_seconds is not None:
        lines.append(f"On the simulated fleet {duration(summary.virtual_seconds)}; here {duration(summary.seconds)}")
    absent = [(summary.late, "late"), (summary.dropped, "dropped out"), (summary.excluded, "left out")]
    if any(count for count, _ in absent):
        lines.append("Participants: " + ", ".join(f"{count:,} {what}" for count, what in absent if count))
    if summary.epsilon is not None:
        lines.append(f"Privacy spent: ε = {summary.epsilon:.3g}")
    lines.append(
        f"Sent {format_bytes(summary.bytes_up)} up, {format_bytes(summary.bytes_down)} down; "
        f"ledger {format_bytes(summary.ledger_bytes)}, sha256 {summary.ledger_sha256[:16]}"
    )
    lines.append(f"Report  {run_dir / 'report.html'}")
    if summary.interrupted:
        lines.append(f"Resume  {resume_line(run_dir)}")
    return lines


def sparkline(values: Sequence[float], width: int) -> str:
    """A run of values as `width` small bars, each the mean of its stretch; not-finite stretches are blank."""
    count = min(width, len(values))
    edges = [len(values) * i // count for i in range(count + 1)] if count else [0]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    finite = [mean for mean in means if abs(mean) < float("inf")]
    if not finite:
        return " " * count
    low, half = min(finite) / 2, max(finite) / 2 - min(finite) / 2  # halves: a whole span may be beyond floats
    heights = [(mean / 2 - low) / half if half > 0 else 0.0 for mean in means]
    top = len(BARS) - 1
    return "".join(BARS[round(h * top)] if abs(m) < float("inf") else " " for m, h in zip(means, heights, strict=True))
