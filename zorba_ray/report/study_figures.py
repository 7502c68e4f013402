"""A study's pictures. Arms have mid-tones that read on light and dark; every other ink is a stand-in colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, flops
from zorba_ray.report.figures import EMPTY, INK, LINE, SOFT
from zorba_ray.studies.aggregate import Band

PALETTE = ("#2f77c4", "#d1702a", "#2f9263", "#a855c7", "#c2a01d", "#c94a5a", "#3aa6b9", "#8a6d52")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.5, 1.5)))  # where there are more arms than colours


@dataclass(frozen=True)
class Curve:
    """One arm's curve in one panel."""

    arm: str
    panel: str
    band: Band


@dataclass(frozen=True)
class Axis:
    """What a curve is drawn against."""

    cost: str  # column of the curves
    title: str
    show: Callable[[float], str]
    log: bool = False


AXES = (
    Axis("rounds", "rounds", lambda x: f"{x:,.0f}"),
    Axis("bytes_per_client", "bytes up and down, mean of the clients", format_bytes, log=True),
    Axis("flops", "forward FLOPs of all clients", flops),
    Axis("virtual_seconds", "simulated seconds", duration),
)


def colours(arms: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Colour and dash of each arm, in their order."""
    return {arm: (PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % 3]) for i, arm in enumerate(arms)}


def curves(all_curves: Sequence[Curve], axis: Axis, score: str, percent: bool, target: float | None) -> Figure:
    """Score against a cost, a panel for each group of arms; the arms of other panels are behind, in grey."""
    panels = list(dict.fromkeys(curve.panel for curve in all_curves))
    columns = min(len(panels), 2)
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(6.2 * columns, 3.3 * lines + 0.2), layout="constrained")
    grid = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        own = [curve for curve in all_curves if curve.panel == panel]
        names = {curve.arm for curve in own}
        for curve in all_curves:
            if curve.arm not in names and len({c.panel for c in all_curves if c.arm == curve.arm}) == 1:
                axes.plot(*line(curve.band, axis.log), color=EMPTY, linewidth=0.9, zorder=1)
        style = colours([curve.arm for curve in own])
        for curve in own:
            colour, dash = style[curve.arm]
            x, y = line(curve.band, axis.log)
            kept = curve.band.x > 0 if axis.log else slice(None)
            axes.fill_between(x, curve.band.least[kept], curve.band.most[kept], color=colour, alpha=0.15, linewidth=0)
            marker = "o" if len(x) < 3 else ""
            axes.plot(x, y, color=colour, linestyle=dash, label=curve.arm, marker=marker, markersize=3.5, zorder=3)
        if target is not None:
            axes.axhline(target, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
        axes.set_title(panel)
        place_legend(axes)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for i, axes in enumerate(grid[: len(panels)]):
        dress(axes, axis, percent)
        last_of_column = i + columns >= len(panels)
        axes.tick_params(labelbottom=last_of_column)
        axes.set_xlabel(axis.title if last_of_column else "")
        axes.set_ylabel(score if i % columns == 0 else "")
    return figure


def line(band: Band, log: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A log axis has no place for the untuned model, which cost nothing."""
    kept = band.x > 0 if log else slice(None)
    return band.x[kept], band.median[kept]


def place_legend(axes: Axes) -> None:
    """Beside the panel: inside, it would cover curves."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    legend = axes.legend(frameon=False, fontsize=8, handlelength=1.6, labelspacing=0.35, **place)
    for text in legend.get_texts():
        text.set_color(INK)


def dress(axes: Axes, axis: Axis, percent: bool) -> None:
    if axis.log:
        axes.set_xscale("log", base=2)
        low, high = axes.get_xlim()
        step = max(1, math.ceil(math.log2(high / low) / 6))
        powers = range(math.ceil(math.log2(low) / step) * step, math.floor(math.log2(high)) + 1, step)
        axes.set_xticks([2.0**power for power in powers])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: axis.show(x) if x else "0"))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    if percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %" if y <= 1 + 1e-9 else ""))


def memory(rows: Sequence[tuple[str, NDArray[np.float64]]]) -> Figure:
    """VRAM that each client needs, an arm a row: a dot for every value, as large as its share of the clients."""
    figure = Figure(figsize=(9.6, 0.9 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    most = max(float(values.max()) for _, values in rows)
    least = min(float(values.min()) for _, values in rows)
    for place, (_, values) in enumerate(rows):
        bins, counts = np.unique(np.round(np.log(np.maximum(values, 1)) / 0.02), return_counts=True)
        axes.plot([values.min(), values.max()], [place, place], color=LINE, linewidth=2.2, zorder=1)
        sizes = 14 + 150 * counts / counts.sum()
        places = np.full(len(bins), place)
        axes.scatter(np.exp(bins * 0.02), places, s=sizes, color=PALETTE[0], alpha=0.75, linewidths=0, zorder=2)
        text = format_bytes(float(values.max()))
        axes.annotate(text, (float(values.max()), place), (12, 0), textcoords="offset points", va="center", color=SOFT)
    log = most > 8 * least
    if log:
        axes.set_xscale("log", base=2)
        axes.margins(x=0.12)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.14 * most)
        axes.xaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(most / 6))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_bytes(x) if x else "0"))
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel("VRAM of a client by the allocator's model; a dot's size is its share of the clients")
    return figure


@dataclass(frozen=True)
class Sweep:
    """What a cell's rates came to; not finite: the run failed."""

    name: str
    rates: NDArray[np.float64]
    scores: NDArray[np.float64]
    chosen: float | None
    edge: bool


def sweeps(all_sweeps: Sequence[Sweep], score: str, percent: bool) -> Figure:
    """How each arm's learning rate was chosen, a small panel for each."""
    columns = min(4, len(all_sweeps))
    lines = math.ceil(len(all_sweeps) / columns)
    figure = Figure(figsize=(2.4 * max(columns, 2), 1.75 * lines + 0.3), layout="constrained")
    grid = np.atleast_1d(figure.subplots(lines, columns, sharey=True)).ravel()
    grid[0].margins(y=0.12)
    for axes in grid[len(all_sweeps) :]:
        axes.set_visible(False)
    for i, (axes, sweep) in enumerate(zip(grid, all_sweeps, strict=False)):
        good = np.isfinite(sweep.scores)
        axes.plot(sweep.rates[good], sweep.scores[good], color=PALETTE[0], marker="o", markersize=3.2, linewidth=1.2)
        for rate in sweep.rates[~good]:
            axes.axvline(rate, color=PALETTE[5], linewidth=1.0, linestyle=(0, (2, 2)))
        if sweep.chosen is not None:
            at = float(sweep.scores[sweep.rates == sweep.chosen][0])
            axes.plot([sweep.chosen], [at], marker="o", markersize=8, markerfacecolor="none", markeredgewidth=1.3,
                      color=PALETTE[1] if sweep.edge else INK)  # fmt: skip
        axes.set_title(sweep.name, fontsize=8.5)
        axes.set_xscale("log")
        axes.set_xlim(sweep.rates.min() / 1.6, sweep.rates.max() * 1.6)
        shown = sweep.rates[:: max(1, len(sweep.rates) - 1)]
        axes.set_xticks(shown, [f"{rate:g}" for rate in shown], fontsize=7.5)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylabel(score if i % columns == 0 else "")
        if percent:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %" if y <= 1 + 1e-9 else ""))
    return figure


def scaling(values: Sequence[str], key: str, lines: dict[str, dict[str, list[tuple[float, float, float]]]]) -> Figure:
    """A quantity (title → arm → median, least, most at each value of the scale) against the scale, a panel for each."""
    numbers = [number_of(value) for value in values]
    numeric = all(number is not None for number in numbers)
    x = np.array([float(n) for n in numbers if n is not None]) if numeric else np.arange(len(values), dtype=float)
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    grid = figure.subplots(2, math.ceil(len(lines) / 2)).ravel()
    for axes, (title, arms) in zip(grid, lines.items(), strict=True):
        style = colours(list(arms))
        for arm, spreads in arms.items():
            colour, dash = style[arm]
            y = np.array(spreads, dtype=float)
            y[~np.isfinite(y)] = np.nan
            axes.fill_between(x, y[:, 1], y[:, 2], color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, y[:, 0], color=colour, linestyle=dash, marker="o", markersize=3.2, label=arm)
        axes.set_title(title)
        axes.set_xlabel(key)
        if numeric and (x > 0).all() and x.max() > 5 * x.min():
            axes.set_xscale("log")
        axes.set_xticks(x, list(values))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(5))
    place_legend(grid[0])
    return figure


def number_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
