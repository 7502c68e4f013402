"""Who can be chosen at a moment: everybody, a generated pattern, or what a trace file says."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ParticipationConfig
from zorba_ray.world.streams import Stream, world

COLUMNS = ("client", "from", "to")


@dataclass(frozen=True)
class Trace:
    """Client `clients[i]` is available in [begins[i], ends[i]), in rounds or virtual seconds."""

    clients: NDArray[np.int64]
    begins: NDArray[np.float64]
    ends: NDArray[np.float64]

    def at(self, moment: float, count: int) -> NDArray[np.bool_]:
        free = np.zeros(count, dtype=np.bool_)
        free[self.clients[(self.begins <= moment) & (moment < self.ends)]] = True
        return free

    def next_begin(self, moment: float) -> float:
        """When somebody becomes available after a moment; infinity: never."""
        return float(self.begins[self.begins > moment].min(initial=math.inf))


class Availability:
    """`at` is a function of its arguments; the chain of a Markov pattern is kept, to not begin at round 0 each time."""

    def __init__(self, section: ParticipationConfig, seed: int, count: int):
        self._section, self._seed, self._count = section, seed, count
        self._chain: tuple[int, NDArray[np.bool_]] | None = None
        self.trace = read_trace(Path(section.trace), count) if section.availability == "trace" else None

    def at(self, round: int, seconds: float) -> NDArray[np.bool_]:
        """Who is available, [N], in a round that begins at a virtual second."""
        section = self._section
        match section.availability:
            case "always":
                return np.ones(self._count, dtype=np.bool_)
            case "random":
                return np.asarray(self._uniform(round) < section.available)
            case "markov":
                return self._markov(round).copy()
        assert self.trace is not None
        return self.trace.at(seconds if section.trace_unit == "seconds" else round, self._count)

    def next_begin(self, round: int, seconds: float) -> float:
        """The next virtual second at which a trace in seconds has somebody come; infinity: it has nobody more.

        Where availability goes by rounds, nobody comes within a round. ConfigError where a trace is over.
        """
        if self.trace is None:
            return math.inf
        by_seconds = self._section.trace_unit == "seconds"
        begin = self.trace.next_begin(seconds if by_seconds else round)
        if math.isinf(begin):
            unit = f"second {seconds:g}" if by_seconds else f"round {round}"
            raise ConfigError(
                f"{self._section.trace}: nobody is available from {unit} on; a longer trace, or fewer rounds"
            )
        return begin if by_seconds else math.inf

    def _uniform(self, round: int) -> NDArray[np.float64]:
        return world(self._seed, Stream.AVAILABLE, round).random(self._count)

    def _markov(self, round: int) -> NDArray[np.bool_]:
        """On/off chains, one per client, in equilibrium from round 0: P(leave) = 1/up, P(come back) = 1/down."""
        up, down = self._section.up, self._section.down
        if self._chain is None or self._chain[0] > round:
            self._chain = 0, self._uniform(0) < up / (up + down)
        start, state = self._chain
        for t in range(start + 1, round + 1):
            draw = self._uniform(t)
            state = np.where(state, draw >= 1 / up, draw < 1 / down)
        self._chain = round, state
        return state


def read_trace(path: Path, count: int) -> Trace:
    """A trace file: one interval a line, JSON objects or CSV with a header, with client, from and to."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"participation.trace: cannot read {path}: {error}") from None
    rows = []
    for line, row in _rows(path, text):
        missing = [name for name in COLUMNS if row.get(name) in (None, "")]
        if missing:
            raise ConfigError(f"{path}, line {line}: no {missing[0]!r}; each line has {', '.join(COLUMNS)}")
        try:
            client, begin, end = (float(row[name]) for name in COLUMNS)
        except (TypeError, ValueError):
            raise ConfigError(f"{path}, line {line}: client, from and to must be numbers") from None
        if not (client.is_integer() and 0 <= client < count):
            raise ConfigError(f"{path}, line {line}: client {client:g} is not one of 0 to {count - 1}")
        if not (begin >= 0 and begin < end):
            raise ConfigError(f"{path}, line {line}: from {begin:g} to {end:g} is no stretch of time")
        rows.append((client, begin, end))
    if not rows:
        raise ConfigError(f"{path} has no interval: nobody is ever available")
    clients, begins, ends = np.array(rows, dtype=np.float64).T
    return Trace(clients.astype(np.int64), begins, ends)


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and rows, by the file's ending."""
    lines = text.splitlines()
    if path.suffix == ".csv":
        reader = csv.DictReader(lines)
        for row in reader:
            yield reader.line_num, row
        return
    if path.suffix not in (".jsonl", ".json"):
        raise ConfigError(f"participation.trace is {str(path)!r}; it must be a .jsonl or .csv file")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ConfigError(f"{path}, line {number}: not an object with {', '.join(COLUMNS)}")
            yield number, row
