"""Signals: Ctrl-C and SIGTERM end a command in order, and a second one ends it at once.

SIGTERM is what Slurm, Kubernetes and spot machines send some thirty seconds before they kill. It is a Ctrl-C with a
deadline. Both are raised in the main thread as KeyboardInterrupt, which is also all that Ray lets through.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from zorba_ray.commands.entry import Done
from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.folder import LEDGER, resume_line

GRACE = 10.0  # seconds that a round under way still has after SIGTERM, before it is left
SHOW_CURSOR = "\x1b[?25h"


def go_on_with_run(folder: Path) -> str:
    return f"What is in the ledger is kept; go on by  {resume_line(folder)}"


@dataclass
class Signals:
    """The folder (None: not known yet), whether there is something in it to go on with, and how (`go_on`), for whatever
    is said last; and which signals came."""

    folder: Path | None = None
    begun: bool = False
    go_on: Callable[[Path], str] = go_on_with_run
    came: list[int] = field(default_factory=list)

    @property
    def terminated(self) -> bool:
        return signal.SIGTERM in self.came

    @property
    def status(self) -> int:
        """Exit status, as shells expect it."""
        return 128 + (self.came[-1] if self.came else signal.SIGINT)

    def last_words(self) -> str:
        if self.folder is not None and (self.begun or (self.folder / LEDGER).exists()):
            return self.go_on(self.folder)
        return "Nothing was begun."


def end_offspring() -> None:
    """Kill what this process has started, Ray's processes and those that they started: some would outlive it."""
    with suppress(ImportError):
        import psutil  # type: ignore[import-untyped]  # comes with Ray

        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()


@contextmanager
def stoppable(signals: Signals) -> Iterator[Signals]:
    """The first signal is raised. A second Ctrl-C, or a SIGTERM after a Ctrl-C, ends the process at once, with the last
    words. SIGTERMs that follow one another are one. Whatever the process has started ends with it: the ledger's lines
    are whole, or cut when the run goes on."""

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


def in_order(signals: Signals, work: Callable[[], Done]) -> Done:
    """What comes of a command, or, where a signal came, the last words and the status that shells expect. An exception
    that was on its way through an import comes out as any other."""
    with stoppable(signals):
        try:
            return work()
        except ConfigError:
            raise
        except (KeyboardInterrupt, Exception) as error:
            if not signals.came and not isinstance(error, KeyboardInterrupt):
                raise
            print(f"zorba_ray: stopped. {signals.last_words()}", file=sys.stderr)
            return Done({"folder": signals.folder, "interrupted": True}, signals.status)


@contextmanager
def terminable(signals: Signals) -> Iterator[Signals]:
    """For the Python API, whose process is somebody else's: Ctrl-C stays theirs, and so does SIGTERM where they have a
    handler of their own. Else SIGTERM is raised as Ctrl-C is, and when what was under way has ended in order, the last
    words are said and the process ends (SystemExit)."""
    theirs = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    if theirs or threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def handle(number: int, frame: FrameType | None) -> None:
        signals.came.append(number)
        if len(signals.came) == 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, handle)
    try:
        yield signals
    except KeyboardInterrupt:
        if not signals.terminated:
            raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signals.terminated:
        print(f"zorba_ray: stopped. {signals.last_words()}", file=sys.stderr)
        raise SystemExit(signals.status)
