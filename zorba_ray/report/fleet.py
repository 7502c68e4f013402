"""Who computed, waited, was late, dropped out, was left out or was away: from a run's records, in two pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from zorba_ray.config.words import duration
from zorba_ray.records.stream import FOLDER, between
from zorba_ray.report.figures import ACCENT, EMPTY, INK, LINE, SECOND, SOFT, canvas
from zorba_ray.report.pictures import Picture, Value, thinned

COUNTED, LATE, DROPPED, LEFT_OUT, AWAY = range(5)
WORDS = ("counted", "late", "dropped out", "left out", "away")
STATE_OF = {"ok": COUNTED, "late": LATE, "dropped": DROPPED}  # whatever else a record says, it was left out
LOOK = (  # colour and hatch: states are told apart without colour, too
    (ACCENT, ""), (SECOND, "///"), (SOFT, "xxx"), (INK, "..."), (EMPTY, ""),
)  # fmt: skip
CLOSE, ROWS = 14, 18  # rounds and clients that are drawn one by one
COLUMNS = 240  # of the picture of all rounds
TOLD = 8  # clients that a table names

Floats = NDArray[np.float64]
Bar = tuple[float, float, float]  # from, until, height at which it lies
BARS = (  # name, colour, hatch, half of the thickness
    ("computes and sends", ACCENT, "", 0.36), ("waits", SOFT, "", 0.05), ("comes too late", SECOND, "////", 0.3),
)  # fmt: skip


@dataclass(frozen=True)
class Trouble:
    """What befell clients under one status."""

    status: str
    records: int
    clients: tuple[int, ...]  # ascending
    first: int  # round
    last: int


@dataclass(frozen=True)
class Fleet:
    """Clients by state in each round; `seconds` [R + 1] is the virtual clock before each round and at the end, NaN
    where there is none; `busy` [R] is what a counted client computed and sent for, on average."""

    states: NDArray[np.int64]  # [R, 5]
    seconds: Floats
    busy: Floats
    troubles: tuple[Trouble, ...]
    close: tuple[int, int]  # rounds drawn one by one, [from, to)
    rows: tuple[tuple[int, NDArray[np.int64], Floats], ...]  # a client, its states and its seconds in these rounds

    @property
    def clock(self) -> bool:
        return bool(np.isfinite(self.seconds[1:]).any())

    @property
    def eventful(self) -> bool:
        """Whether there is anything to see but everybody, always."""
        return self.clock or bool(self.states[:, 1:].any())

    @property
    def idle(self) -> float:
        """Share of its rounds that a counted client waited for the others."""
        length = np.diff(self.seconds)
        return float(1 - np.nansum(np.minimum(self.busy, length)) / np.nansum(length))


def read_fleet(folder: Path, rounds: dict[str, NDArray[Any]], clients: int) -> Fleet:
    """From the records of clients, part by part, and the columns of rounds that are done."""
    done = len(rounds.get("round", ()))
    states, spent = np.zeros((done, 5), dtype=np.int64), np.zeros(done)
    found: dict[str, tuple[int, set[int], int, int]] = {}
    for part in between(folder / FOLDER, "clients", until=done - 1):
        round, client, status, seconds = columns(part)
        state = states_of(status)
        np.add.at(states, (round, state), 1)
        counted = state == COUNTED
        np.add.at(spent, round[counted], np.nan_to_num(seconds[counted]))
        for name in set(status.tolist()) - {"ok"}:
            mine = status == name
            count, who, first, _ = found.get(name, (0, set(), int(round[mine].min()), 0))
            found[name] = (count + int(mine.sum()), who | set(client[mine].tolist()), first, int(round[mine].max()))
    states[:, AWAY] = clients - states.sum(axis=1)
    clock = np.concatenate([[0.0], np.asarray(rounds.get("virtual_seconds", ()), dtype=np.float64)])
    busy = np.divide(spent, states[:, COUNTED], out=np.zeros(done), where=states[:, COUNTED] > 0)
    troubles = [Trouble(name, count, tuple(sorted(who)), *span) for name, (count, who, *span) in found.items()]
    ordered = tuple(sorted(troubles, key=lambda each: (-each.records, each.status)))
    window = busiest(states)
    return Fleet(states, clock, busy, ordered, window, close_up(folder, window))


def columns(part: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_], Floats]:
    """Round, client, status and virtual seconds of the records that are no probes."""
    part = part.filter(pc.not_equal(part["status"], "statistics"))
    round, client = (part[name].to_numpy().astype(np.int64) for name in ("round", "client"))
    seconds = np.asarray(part["virtual_seconds"].to_numpy(), dtype=np.float64)
    return round, client, np.array(part["status"].to_pylist(), dtype=np.str_), seconds


def states_of(status: NDArray[np.str_]) -> NDArray[np.int64]:
    names, place = np.unique(status, return_inverse=True)
    return np.array([STATE_OF.get(name, LEFT_OUT) for name in names.tolist()], dtype=np.int64)[place]


def busiest(states: NDArray[np.int64]) -> tuple[int, int]:
    """The stretch of rounds in which most went wrong; of those alike the first."""
    width = min(CLOSE, len(states))
    wrong = np.concatenate([[0], np.cumsum(states[:, LATE:AWAY].sum(axis=1))])
    start = int(np.argmax(wrong[width:] - wrong[: len(wrong) - width])) if width else 0
    return start, start + width


def close_up(folder: Path, window: tuple[int, int]) -> tuple[tuple[int, NDArray[np.int64], Floats], ...]:
    """Of the clients that took part in these rounds as many as can be drawn, evenly chosen."""
    start, stop = window
    if stop == start:
        return ()
    parts = [columns(part) for part in between(folder / FOLDER, "clients", start - 1, stop - 1)]
    round, client, status, seconds = (np.concatenate(each) for each in zip(*parts, strict=True))
    state = states_of(status)
    there = np.unique(client)
    rows = []
    for n in there[np.linspace(0, len(there) - 1, min(ROWS, len(there))).astype(int)].tolist():
        mine = client == n
        at, spent = np.full(stop - start, AWAY), np.full(stop - start, np.nan)
        at[round[mine] - start], spent[round[mine] - start] = state[mine], seconds[mine]
        rows.append((n, at, spent))
    return tuple(rows)


def pictures(fleet: Fleet) -> list[Picture]:
    return [overview(fleet), timeline(fleet)] if fleet.eventful else []


def overview(fleet: Fleet) -> Picture:
    """All rounds: how many clients were in which state."""
    done = len(fleet.states)
    starts = np.unique(np.linspace(0, done, min(done, COLUMNS) + 1).astype(int)[:-1])
    widths = np.diff(np.append(starts, done))
    mean = np.add.reduceat(fleet.states, starts, axis=0) / widths[:, None]
    shown = [state for state in range(5) if fleet.states[:, state].any()]
    data: dict[str, Any] = {"round": list(range(done)), **{WORDS[s]: fleet.states[:, s].tolist() for s in range(5)}}
    values: list[Value] = []
    for start, width, row in zip(starts.tolist(), widths.tolist(), mean, strict=True):
        said = ", ".join(f"{WORDS[state]} {row[state]:.3g}" for state in shown)
        values.append((start + width / 2, float(row.sum()) / 2, f"Round {start + 1}: {said}"))

    def draw() -> Figure:
        figure, axes = canvas(1, 2.6)
        axes.set_title("Clients by what became of them, round by round")
        below, edges = np.zeros(len(starts) + 1), np.append(starts, done)
        for state in shown:
            above = below + np.append(mean[:, state], mean[-1, state])
            colour, hatch = LOOK[state]
            axes.fill_between(edges, below, above, step="post", facecolor=colour, hatch=hatch, edgecolor=LINE,
                              linewidth=0, label=WORDS[state])  # fmt: skip
            below = above
        axes.set(xlim=(0, done), ylim=(0, below.max()), xlabel="rounds done")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, integer=True))
        legend(axes, len(shown))
        return figure

    return Picture("fleet", draw, data, thinned(values))


def legend(axes: Axes, count: int) -> None:
    axes.legend(frameon=False, ncols=count, loc="lower right", bbox_to_anchor=(1, 0.99), labelcolor=SOFT,
                handlelength=1.6)  # fmt: skip


def timeline(fleet: Fleet) -> Picture:
    """A few rounds and clients: on the virtual clock where there is one, else a round is as long as any other."""
    start, stop = fleet.close
    clock = fleet.seconds[start : stop + 1] if fleet.clock else np.arange(start, stop + 1.0)
    bars: dict[str, list[Bar]] = {name: [] for name, *_ in BARS}
    marks: dict[int, list[tuple[float, float]]] = {DROPPED: [], LEFT_OUT: []}
    data: dict[str, list[Any]] = {"client": [], "round": [], "state": [], "from": [], "until": []}
    values: list[Value] = []
    for place, (client, states, seconds) in enumerate(fleet.rows):
        for i, state in enumerate(states.tolist()):
            begun, ended = float(clock[i]), float(clock[i + 1])
            busy = begun + (float(seconds[i]) if np.isfinite(seconds[i]) else ended - begun)
            if state == COUNTED:
                bars["computes and sends"].append((begun, min(busy, ended), place))
                bars["waits"].append((min(busy, ended), ended, place))
            elif state == LATE:
                bars["comes too late"].append((begun, busy, place))
            elif state != AWAY:
                marks[state].append(((begun + ended) / 2, place))
            row = (client, start + i, WORDS[state], begun, ended if state == AWAY else busy)
            for name, value in zip(data, row, strict=True):
                data[name].append(value)
            spent = f" after {duration(busy - begun)} of {duration(ended - begun)}" if np.isfinite(seconds[i]) else ""
            said = f"Client {client}, round {start + i + 1}: {WORDS[state]}{spent}"
            values.append(((begun + ended) / 2, place, said))

    def draw() -> Figure:
        figure, axes = canvas(1, 1.5 + 0.17 * len(fleet.rows))
        axes.set_title("Some clients one by one")
        for name, colour, hatch, half in BARS:
            if found := [bar for bar in bars[name] if bar[1] > bar[0]]:
                filled = {"facecolor": "none", "hatch": hatch} if hatch else {"facecolor": colour}
                axes.add_patch(PathPatch(outline(found, half), edgecolor=colour, linewidth=0.6, label=name, **filled))
        for state, mark in ((DROPPED, "x"), (LEFT_OUT, "D")):
            if marks[state]:
                x, y = zip(*marks[state], strict=True)
                axes.plot(x, y, mark, color=INK, markersize=4.5, fillstyle="none", label=WORDS[state])
        for edge in clock:
            axes.axvline(edge, color=LINE, linewidth=0.7, zorder=0)
        axes.set(xlim=(clock[0], clock[-1]), ylim=(len(fleet.rows) - 0.4, -0.6))
        axes.set_yticks(range(len(fleet.rows)), [f"client {client}" for client, _, _ in fleet.rows])
        axes.grid(False)
        axes.set_xlabel("seconds on the simulated fleet; lines between rounds" if fleet.clock else "rounds done")
        if fleet.clock:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: duration(x) if x else "0"))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        legend(axes, 5)
        return figure

    return Picture("fleet-timeline", draw, data, values)


def outline(bars: list[Bar], half: float) -> Outline:
    """All bars of a kind as one shape: a page with hundreds of them stays small."""
    corners = [
        corner for left, right, y in bars
        for corner in ((left, y - half), (right, y - half), (right, y + half), (left, y + half), (left, y - half))
    ]  # fmt: skip
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY] * len(bars)
    return Outline(corners, codes)


def told(trouble: Trouble) -> list[str]:
    """A row of the table of what went wrong."""
    names = ", ".join(map(str, trouble.clients[:TOLD]))
    more = len(trouble.clients) - TOLD
    span = f"{trouble.first + 1} to {trouble.last + 1}" if trouble.last > trouble.first else f"{trouble.first + 1}"
    names += f" and {more:,} more" * (more > 0)
    return [trouble.status, f"{trouble.records:,}", f"{len(trouble.clients):,}", names, span]
