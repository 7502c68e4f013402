"""Learning curves of one or several runs, switchable over what they cost, without JavaScript."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, flops, percent
from zorba_ray.records.stream import read_parts
from zorba_ray.report.figures import ACCENT, INK, smooth
from zorba_ray.report.page import figure as framed
from zorba_ray.report.pictures import Picture, inline, thinned
from zorba_ray.studies.aggregate import Band, band

Floats = NDArray[np.float64]
COLOURS = ("#2f77c4", "#d1702a", "#2f9263", "#a855c7", "#b08f14", "#c94a5a", "#3aa6b9", "#8a6d52")
DASHES = ((), (5, 1.6), (1.5, 1.5), (6, 1.5, 1.5, 1.5))  # beside the colour, for those who cannot tell it
MOST_POINTS = 300  # of one line


@dataclass(frozen=True)
class Curves:
    """One run over its course. A cost at index r is the sum over r rounds."""

    costs: dict[str, Floats]  # of every name in AXES, rounds done + 1 each; NaN where the run has no such thing
    training: Floats  # loss of the rounds
    at: NDArray[np.int64]  # rounds done at each evaluation
    tests: dict[str, Floats]  # of the metrics of evaluations

    @property
    def rounds(self) -> int:
        return len(self.training)


@dataclass(frozen=True)
class Axis:
    """What curves are drawn against."""

    cost: str
    tab: str
    title: str
    show: Callable[[float], str]
    base: int = 1000  # of its unit's prefixes


@dataclass(frozen=True)
class Metric:
    name: str
    title: str
    share: bool  # 0 to 1, said in percent

    def show(self, value: float) -> str:
        return percent(value) if self.share else f"{value:.4g}"


@dataclass(frozen=True)
class Series:
    """Runs that differ in their seed alone, under one name."""

    label: str
    runs: Sequence[Curves]


AXES = (
    Axis("rounds", "Rounds", "rounds done", lambda x: f"{x:,.0f}"),
    Axis("flops", "Forward FLOPs", "forward FLOPs, all clients", flops),
    Axis("bytes", "Bytes", "bytes up and down, all clients", format_bytes, 1024),
    Axis("seconds", "Seconds here", "seconds of rounds, here", duration),
    Axis("virtual_seconds", "Virtual seconds", "seconds on the simulated fleet", duration),
)
METRICS = (
    Metric("accuracy", "Test accuracy", True),
    Metric("loss", "Test loss", False),
    Metric("training", "Training loss", False),
    Metric("client_accuracy", "Accuracy per client, mean", True),
    Metric("client_accuracy_worst", "Accuracy, worst tenth of the clients", True),
)
TESTS = tuple(metric.name for metric in METRICS if metric.name != "training")
NEEDED = ("round", "loss", "bytes_up", "bytes_down", "seconds", "virtual_seconds", *TESTS)


def read_curves(folder: Path) -> Curves:
    """Of a run's records, part by part: those of a run that goes on are whole as far as they are written."""
    rows: dict[str, list[pa.Table]] = {"round": [], "evaluation": []}
    work: dict[int, float] = {}
    for part in read_parts(folder):
        for kind, found in rows.items():
            found.append(part.filter(pc.equal(part["kind"], kind)).select(list(dict.fromkeys(NEEDED))))
        add_work(work, part)
    rounds, tests = (columns(found) for found in rows.values())
    return curves_of(rounds, tests, work)


def add_work(work: dict[int, float], part: pa.Table) -> None:
    """Forward FLOPs of all clients by round."""
    clients = part.filter(pc.equal(part["kind"], "client")).group_by("round").aggregate([("flops", "sum")])
    for round, total in zip(clients["round"].to_pylist(), clients["flops_sum"].to_pylist(), strict=True):
        work[round] = work.get(round, 0.0) + (total or 0.0)


def columns(tables: list[pa.Table]) -> dict[str, Floats]:
    if not tables:
        return {name: np.zeros(0) for name in NEEDED}
    whole = pa.concat_tables(tables).sort_by("round")
    return {name: np.asarray(whole[name].to_numpy(), dtype=np.float64) for name in whole.column_names}


def curves_of(rounds: dict[str, Any], tests: dict[str, Any], work: dict[int, float]) -> Curves:
    done = len(rounds.get("round", ()))
    at = np.asarray(tests.get("round", ()), dtype=np.int64)

    def so_far(each: Any) -> Floats:
        return np.concatenate([[0.0], np.cumsum(np.asarray(each, dtype=np.float64))])

    if not done:
        costs = {axis.cost: np.zeros(1) for axis in AXES}
    else:
        costs = {
            "rounds": np.arange(done + 1.0),
            "flops": so_far([work.get(round, 0.0) for round in range(done)]),
            "bytes": so_far(rounds["bytes_up"] + rounds["bytes_down"]),
            "seconds": so_far(rounds["seconds"]),
            "virtual_seconds": np.concatenate([[0.0], np.asarray(rounds["virtual_seconds"], dtype=np.float64)]),
        }
    training = np.asarray(rounds.get("loss", ()), dtype=np.float64)
    kept = at <= done  # an evaluation may lie in a part before that of its round
    found = {name: np.asarray(tests[name], dtype=np.float64)[kept] for name in TESTS if name in tests}
    return Curves(costs, training, at[kept], found)


def points(curves: Curves, metric: Metric, axis: Axis) -> tuple[Floats, Floats]:
    """x and y of a run's curve; nothing where it has none."""
    if metric.name == "training":
        x, y = curves.costs[axis.cost][1:], smooth(curves.training) if curves.rounds else curves.training
    else:
        x, y = curves.costs[axis.cost][curves.at], curves.tests.get(metric.name, np.full(len(curves.at), np.nan))
    if not len(x) or not np.isfinite(x).all() or not np.isfinite(y).any() or x[-1] <= 0:
        return np.zeros(0), np.zeros(0)
    return x, y


def bands(series: Sequence[Series], metric: Metric, axis: Axis) -> list[tuple[int, str, Band]]:
    """Number, label and band of each series that has this curve."""
    found = []
    for number, each in enumerate(series):
        drawn = [xy for curves in each.runs if len((xy := points(curves, metric, axis))[0])]
        if drawn:
            found.append((number, each.label, drawable(band([x for x, _ in drawn], [y for _, y in drawn]))))
    return found


def drawable(whole: Band) -> Band:
    """As many points as a picture can show, the last among them: after the seeds were put together, round by round."""
    step = max(1, math.ceil(len(whole.x) / MOST_POINTS))
    kept = np.unique(np.r_[np.arange(0, len(whole.x), step), len(whole.x) - 1])
    return Band(whole.x[kept], whole.median[kept], whole.least[kept], whole.most[kept])


def picture(series: Sequence[Series], metric: Metric, axis: Axis) -> Picture | None:
    """One panel: medians over seeds, and from the least to the most. None where nobody has this curve."""
    found = bands(series, metric, axis)
    if not found:
        return None
    data: dict[str, list[Any]] = {"series": [], axis.cost: [], metric.name: [], "least": [], "most": [], "runs": []}
    for number, label, each in found:
        rows = (each.x, each.median, each.least, each.most)
        for x, median, least, most in zip(*(values.tolist() for values in rows), strict=True):
            for name, value in zip(data, (label, x, median, least, most, len(series[number].runs)), strict=True):
                data[name].append(value)
    name = f"{metric.name}-{axis.cost}".replace("_", "-")
    values = [
        value for _, label, each in found
        for value in thinned([
            (x, y, f"{label}: {metric.show(y)} at {axis.show(x)}")
            for x, y in zip(each.x.tolist(), each.median.tolist(), strict=True)
        ])
    ]  # fmt: skip
    return Picture(name, lambda: draw(found, metric, axis, len(series) == 1), data, values)


def draw(found: Sequence[tuple[int, str, Band]], metric: Metric, axis: Axis, alone: bool) -> Figure:
    figure = Figure(figsize=(4.7, 2.75))
    axes = figure.add_axes((0.11, 0.17, 0.87, 0.7))  # the same for all: they line up, and no layout is to be found
    axes.set_title(metric.title)
    for number, _, each in found:
        colour = ACCENT if alone else COLOURS[number % len(COLOURS)]
        dash = DASHES[number % len(DASHES)]
        axes.fill_between(each.x, each.least, each.most, color=colour, alpha=0.16, linewidth=0)
        (line,) = axes.plot(each.x, each.median, color=colour, marker="o" if len(each.x) <= 40 else "", markersize=2.8)
        if dash:
            line.set_dashes(dash)
    most = max(float(each.x[-1]) for _, _, each in found)
    axes.set_xlim(-0.02 * most, 1.04 * most)
    if alone:
        end(axes, found[0][2], metric)
    unit = axis.base ** max(0, math.floor(math.log(most, axis.base))) if axis.cost in ("flops", "bytes") else 1
    ticks = MaxNLocator(4, integer=axis.cost == "rounds").tick_values(0, most / unit)
    axes.set_xticks([unit * tick for tick in ticks if 0 <= unit * tick <= 1.02 * most])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: axis.show(x) if x else "0"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if metric.share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %" if y <= 1 + 1e-9 else ""))
    axes.set_xlabel(axis.title)
    return figure


def end(axes: Axes, each: Band, metric: Metric) -> None:
    """The last value, said."""
    axes.margins(y=0.16)
    place = (float(each.x[-1]), float(each.median[-1]))
    axes.annotate(metric.show(place[1]), place, (0, 7), textcoords="offset points", ha="right", color=INK,
                  fontweight="bold")  # fmt: skip


def pictures(series: Sequence[Series]) -> list[Picture]:
    """All panels of all axes, for a paper."""
    made = (picture(series, metric, axis) for axis in AXES for metric in METRICS)
    return [each for each in made if each is not None]


def switchable(series: Sequence[Series], name: str = "x") -> str:
    """A row of buttons, one for each cost, and the panels of the one that is pressed."""
    tabs = []
    for axis in AXES:
        made = [(metric, each) for metric in METRICS if (each := picture(series, metric, axis)) is not None]
        if made:
            tabs.append((axis, "".join(panel(series, metric, axis, each) for metric, each in made)))
    buttons = "".join(
        f'<input type="radio" name="{name}" id="{name}-{axis.cost}"{" checked" * (i == 0)}>'
        f'<label for="{name}-{axis.cost}">{escape(axis.tab)}</label>'
        for i, (axis, _) in enumerate(tabs)
    )
    bodies = "".join(f'<div class="tab">{body}</div>' for _, body in tabs)
    key = legend([each.label for each in series]) if len(series) > 1 else ""
    return f'<div class="tabs"><span class="soft">Against</span>{buttons}{key}{bodies}</div>'


def panel(series: Sequence[Series], metric: Metric, axis: Axis, each: Picture) -> str:
    """A picture, its values under the pointer, and in words for those who do not see it."""
    found = [(label, band) for _, label, band in bands(series, metric, axis)]
    ends = [(label, metric.show(float(b.median[-1])), axis.show(float(b.x[-1]))) for label, b in found]
    said = "; ".join(f"{label}: {value} at {cost}" for label, value, cost in ends)
    return framed(inline(each), f"{metric.title} against {axis.title}. In the end, {said}")


def legend(labels: Sequence[str]) -> str:
    """Line and name of each series, once for all panels."""
    keys = []
    for number, label in enumerate(labels):
        dash = " ".join(f"{2 * x:g}" for x in DASHES[number % len(DASHES)])
        keys.append(
            f'<li><svg viewBox="0 0 30 8" width="30" height="8" aria-hidden="true"><line x1="0" y1="4" x2="30" y2="4" '
            f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2.4" stroke-dasharray="{dash}"/></svg>'
            f"{escape(label)}</li>"
        )
    return f'<ul class="key">{"".join(keys)}</ul>'
