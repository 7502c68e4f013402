"""Waiting that says what for, after ten seconds, and that ends: room on a cluster comes within a stated time, and an
actor that stands still for that time is taken for dead.

An actor may compute for hours, so silence alone proves nothing. Where it lasts too long, a small task on the actor's
node looks at its process: one that uses no CPU time stands still.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.words import duration
from zorba_ray.runtime.news import News
from zorba_ray.runtime.packing import Standing

SPEAK = 10.0  # seconds after which whoever waits says for what
TIMES = 10  # as long as usual, after which silence is worth a look
GLANCE = 0.5  # seconds between two looks at whether the run should halt
REMEMBERED = 20  # calls, whose median is what is usual
IDLE = 0.02  # CPU seconds a second, below which a process stands still: its threads of Ray alone use less


class Halted(ConfigError):
    """The run was told to stop at once; the round under way is left, and done anew when the run goes on."""


class NoRoom(ConfigError):
    """The run lost the machines that carried it: nothing is wrong with it, and it can go on wherever there is room."""


class Late(NoRoom):
    """What should have come within a stated time did not."""


@dataclass
class Watch:
    """Of one run. `patience`: seconds after which it gives up on what does not come; `halt_at`: on everything."""

    news: News
    patience: float
    halt_at: float | None = None
    _usual: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED)))

    def for_room(
        self, references: Sequence[Any], what: str, limit: float | None = None, gone: Callable[[], bool] = bool
    ) -> list[Any] | None:
        """The first of the references to be there, in a list; they should come as soon as the cluster has room.

        `what` says what is waited for. `Late` after `limit` seconds (none given: the run's patience); None as soon as
        it is `gone` for good.
        """
        limit, started, speak = self.patience if limit is None else limit, time.monotonic(), SPEAK
        while not (there := ray.wait(list(references), timeout=GLANCE)[0]):
            waited = time.monotonic() - started
            self._halt()
            if gone():
                return None
            if waited > limit:
                raise Late(f"{what} did not come within {duration(limit)}; {taken()}")
            if waited > speak:
                self.news.say(f"waiting for {what} since {duration(waited)}, at most {duration(limit)}; {taken()}")
                speak *= 2
        return list(there)

    def for_answers(self, call: str, what: str, asked: Sequence[tuple[Any, str, Standing]]) -> list[int]:
        """Wait until each of `asked` (reference, actor's name, where it stands) has answered or failed. The positions
        of those whose actor stands still for as long as the patience lasts, so that no answer will come."""
        started = time.monotonic()
        usual = median(self._usual[call]) if self._usual[call] else None
        speak = SPEAK if usual is None else max(SPEAK, TIMES * usual)
        still: dict[int, float] = {}  # position -> since when its actor has stood still
        waiting = list(range(len(asked)))
        while waiting:
            references = [asked[i][0] for i in waiting]
            done = set(ray.wait(references, num_returns=len(references), timeout=GLANCE)[0])
            waiting = [i for i in waiting if asked[i][0] not in done]
            self._halt()
            waited = time.monotonic() - started
            if not waiting or waited < speak:
                continue
            speak = waited + min(waited, self.patience / 4)
            still = self._look(waiting, asked, still)
            known = [asked[i][1] for i, since in still.items() if since < time.monotonic() - GLANCE]  # seen so twice
            self._tell(what, waited, usual, [asked[i][1] for i in waiting], known)
            lost = [i for i, since in still.items() if time.monotonic() - since >= self.patience]
            if lost:
                return lost
        self._usual[call].append(time.monotonic() - started)
        return []

    def _look(
        self, waiting: Sequence[int], asked: Sequence[tuple[Any, str, Standing]], still: dict[int, float]
    ) -> dict[int, float]:
        """Which actors stand still, and since when."""
        now = time.monotonic()
        moving = pulses([asked[i][2] for i in waiting])
        return {i: still.get(i, now) for i, moves in zip(waiting, moving, strict=True) if not moves}

    def _tell(self, what: str, waited: float, usual: float | None, names: Sequence[str], still: Sequence[str]) -> None:
        length = "" if usual is None else f", usually {duration(usual)}"
        line = f"{what} takes {duration(waited)} so far{length}: no answer yet from {listed(names)}"
        if still:
            verb = "stands" if len(set(still)) == 1 else "stand"
            line += f"; {listed(still)} {verb} still and will be given up after {duration(self.patience)} of that"
        self.news.say(line)

    def _halt(self) -> None:
        if self.halt_at is not None and time.monotonic() > self.halt_at:
            raise Halted("stopped in the middle of a round, which is done anew when the run goes on")


def pulses(standings: Sequence[Standing], seconds: float = 1.0, within: float = 5.0) -> list[bool]:
    """Whether each process uses CPU time, looked at from its own node for so many seconds. True where nobody can tell:
    which process it is, or because its node does not answer `within` so many more (of a dead one Ray will say so)."""

    def pulse(pid: int, seconds: float) -> bool:
        before = cpu_seconds(pid)
        time.sleep(seconds)
        return before is None or (cpu_seconds(pid) or before) - before > IDLE * seconds

    look, options = ray.remote(pulse), {"num_cpus": 0, "max_retries": 0}
    there = [NodeAffinitySchedulingStrategy(where.node, soft=False) for where in standings if where.node]
    pids = [where.pid for where in standings if where.node]
    references = [
        look.options(**options, scheduling_strategy=node).remote(pid, seconds)
        for node, pid in zip(there, pids, strict=True)
    ]
    if references:
        ray.wait(references, num_returns=len(references), timeout=seconds + within)
    found = iter([_seen(reference) for reference in references])
    return [next(found) if where.node else True for where in standings]


def _seen(reference: Any) -> bool:
    try:
        return bool(ray.get(reference, timeout=0))
    except RayError:  # not there in time
        return True


def cpu_seconds(pid: int) -> float | None:
    """Of a process of this machine; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def taken() -> str:
    """How much of the cluster is free."""
    offered: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    parts = [f"{free.get(kind, 0):g} of {offered[kind]:g} {kind}s" for kind in ("CPU", "GPU") if offered.get(kind)]
    return f"the cluster has {' and '.join(parts) or 'no CPU'} free"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names once each, the first few of many."""
    unique = list(dict.fromkeys(names))
    rest = len(unique) - most
    return ", ".join(unique[:most]) + (f" and {rest} more" if rest > 0 else "")
