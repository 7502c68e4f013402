"""What the driver has to say while one of its calls is under way: the stage that it is in, and lines for the user."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bulletin:
    """`stage` is what the driver does now; `lines` are those that nobody has been told yet."""

    stage: str
    lines: list[str]


@dataclass(frozen=True)
class Progress:
    """How far a run is, for whoever did not begin it. Losses and accuracies are the last ones; NaN before the first."""

    folder: str
    machine: str  # that the folder is on
    stage: str
    rounds_done: int
    rounds: int
    loss: float = math.nan  # of the participants' mini-batches
    accuracy: float = math.nan  # on the test data


@dataclass
class News:
    """Written by the thread that works, read by the one that answers the front end."""

    stage: str = ""
    _lines: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, stage: str) -> None:
        self.stage = stage

    def say(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)

    def take(self) -> list[str]:
        """The lines so far; each is told once."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def bulletin(self) -> Bulletin:
        return Bulletin(self.stage, self.take())

    def __reduce__(self) -> tuple[type[News], tuple[str]]:
        return News, (self.stage,)
