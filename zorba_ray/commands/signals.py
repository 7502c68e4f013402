"""Signals: Ctrl-C and SIGTERM end a run in order, and a second one ends it at once.

SIGTERM is what Slurm, Kubernetes and spot machines send some thirty seconds before they kill. It is a Ctrl-C with a
deadline. Both are raised in the main thread as KeyboardInterrupt, which is also all that Ray lets through.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from zorba_ray.runs.folder import LEDGER, resume_line

GRACE = 10.0  # seconds that a round under way still has after SIGTERM, before it is left
SHOW_CURSOR = "\x1b[?25h"


@dataclass
class Signals:
    """The run's folder and whether there is something in it to go on with, for whatever is said last; and which signals
    came."""

    folder: Path
    begun: bool
    came: list[int] = field(default_factory=list)

    @property
    def terminated(self) -> bool:
        return signal.SIGTERM in self.came

    @property
    def status(self) -> int:
        """Exit status, as shells expect it."""
        return 128 + (self.came[-1] if self.came else signal.SIGINT)

    def last_words(self) -> str:
        if self.begun or (self.folder / LEDGER).exists():
            return f"What is in the ledger is kept; go on by  {resume_line(self.folder)}"
        return "Nothing was begun."


def end_offspring() -> None:
    """Kill what this process has started, Ray's processes and those that they started: some would outlive it."""
    with suppress(ImportError):
        import psutil  # type: ignore[import-untyped]  # comes with Ray

        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()


@contextmanager
def stoppable(folder: Path, begun: bool) -> Iterator[Signals]:
    """The first signal is raised. A second Ctrl-C, or a SIGTERM after a Ctrl-C, ends the process at once, with the last
    words. SIGTERMs that follow one another are one. Whatever the process has started ends with it: the ledger's lines
    are whole, or cut when the run goes on."""
    signals = Signals(folder, begun)

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and signals.came and signals.came[-1] == signal.SIGTERM:
            return
        signals.came.append(number)
        if len(signals.came) > 1:
            end = SHOW_CURSOR if sys.stderr.isatty() else ""
            os.write(2, f"{end}zorba_ray: stopped at once. {signals.last_words()}\n".encode(errors="replace"))
            end_offspring()
            os._exit(signals.status)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
