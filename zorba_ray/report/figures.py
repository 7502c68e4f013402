"""The report's pictures as inline SVG: no pyplot, no global state, colours that follow the page's light or dark theme.

Figures are drawn with stand-in colours, which become CSS variables of the page; text stays text in the page's own font.
Everything takes plain arrays, and what grows with the number of clients is drawn as an image or by class.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from zorba_ray.config.units import format_bytes

# stand-in colour → CSS variable
INK, SOFT, LINE, ACCENT, SECOND, EMPTY = "#0a0b0c", "#1a1b1c", "#2a2b2c", "#3a3b3c", "#4a4b4c", "#5a5b5c"
VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", ACCENT: "accent", SECOND: "second", EMPTY: "empty"}
ACTIVE_RGB = (74, 124, 191)  # of images, which cannot follow the theme: reads on light and dark
CHARACTERS = 110  # that fit side by side
MOST_CELLS = 64  # clients drawn one by one; more become an image
IMAGE_ROWS = 360
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "figure.constrained_layout.wspace": 0.08, "font.size": 9.0,
    "text.color": INK, "axes.labelcolor": SOFT, "axes.titlecolor": INK,
    "xtick.color": SOFT, "ytick.color": SOFT, "axes.edgecolor": LINE, "axes.linewidth": 0.8, "axes.titlesize": 9.5,
    "axes.titlelocation": "left", "axes.titlepad": 10.0, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": LINE,
    "grid.linewidth": 0.6, "xtick.major.size": 0.0, "ytick.major.size": 0.0, "xtick.major.pad": 6.0,
    "lines.linewidth": 1.6, "lines.solid_capstyle": "round", "lines.solid_joinstyle": "round",
}  # fmt: skip


def allocation_map(
    matrix: NDArray[np.bool_], groups: Sequence[tuple[str, NDArray[Any]]], blocks: Sequence[str]
) -> Figure:
    """Who tunes which block. `groups`: label and client numbers of each budget class, drawn from top to bottom."""
    clients, width = matrix.shape
    drawn = sum(len(members) for _, members in groups)
    each = clients <= MOST_CELLS
    scale = 1.0 if each else IMAGE_ROWS / drawn  # rows of the picture per client
    gap = (0.7 if each else IMAGE_ROWS * 0.018) if len(groups) > 1 else 0.0
    rows = drawn * scale + gap * (len(groups) - 1)
    height = min(6.2, max(1.4, 0.2 * rows)) if each else 4.6
    figure = Figure(figsize=(9.6, height + 1.3), layout="constrained")
    top, axes = figure.subplots(2, 1, sharex=True, height_ratios=[0.6, height])
    coverage = matrix.sum(axis=0)
    top.bar(np.arange(width), coverage, width=0.8 if width <= 60 else 1.0, color=SECOND)
    counted = sum(len(f"{count:,}") + 1 for count in coverage) <= CHARACTERS
    top.set_ylim(0, max(1, coverage.max()) * (1.5 if counted else 1.05))
    top.set_yticks([])
    top.grid(False)
    between = "" if counted else f": from {coverage.min():,} to {coverage.max():,}"
    top.set_title(f"Clients that tune each block{between}")
    for block, count in enumerate(coverage) if counted else ():
        top.annotate(f"{count:,}", (block, count), (0, 3), textcoords="offset points", ha="center", color=SOFT)
    start, labels, centres = 0.0, [], []
    for label, members in groups:
        order = np.lexsort(matrix[members].T[::-1]) if len(members) else np.arange(0)
        part = matrix[members][order[::-1]]
        if each:
            draw_cells(axes, part, start)
        else:
            draw_image(axes, part, start, len(members) * scale)
        labels.append(f"{label}\n{len(members):,} client" + "s" * (len(members) != 1))
        centres.append(start + len(members) * scale / 2)
        start += len(members) * scale + gap
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(rows, 0)
    axes.set_yticks(centres, labels)
    axes.set_xticks(*block_ticks(blocks))
    axes.spines["bottom"].set_visible(False)
    axes.grid(False)
    return figure


def block_ticks(blocks: Sequence[str]) -> tuple[list[int], list[str]]:
    """Places and labels of as many block names as fit; where they are tight, a name's last number stands for it."""
    names = list(blocks)
    if (max(map(len, names)) + 2) * len(names) > CHARACTERS:
        names = [found[0] if (found := re.search(r"\d+$", name)) else name for name in names]
    longest = max(len(name) for name in names) + 2
    step = max(1, math.ceil(longest * len(names) / CHARACTERS))
    places = list(range(0, len(names), step))
    return places, [names[place] for place in places]


def draw_cells(axes: Axes, part: NDArray[np.bool_], start: float) -> None:
    for row, active in enumerate(part):
        for block, on in enumerate(active):
            axes.add_patch(
                Rectangle((block - 0.46, start + row + 0.06), 0.92, 0.88, color=ACCENT if on else EMPTY, linewidth=0)
            )


def draw_image(axes: Axes, part: NDArray[np.bool_], start: float, height: float) -> None:
    """Neighbouring clients share a row of pixels; its opacity is the share of them that tune the block."""
    pixels = max(1, min(len(part), round(height)))
    edges = np.linspace(0, len(part), pixels + 1).astype(int)
    shares = np.add.reduceat(part.astype(np.float64), edges[:-1], axis=0) / np.diff(edges)[:, None]
    image = np.zeros((*shares.shape, 4), dtype=np.uint8)
    image[..., :3] = ACTIVE_RGB
    image[..., 3] = np.round(255 * (0.1 + 0.9 * shares))
    axes.imshow(
        image, extent=(-0.5, part.shape[1] - 0.5, start + height, start), aspect="auto", interpolation="none"
    )


def budget_bars(
    labels: Sequence[str],
    budgets: Sequence[float],
    least: Sequence[float],
    most: Sequence[float],
    traced: Sequence[float],
    measured: Sequence[float],
) -> Figure:
    """Per class: the budget, what the clients need by the allocator's model, from the least to the most of them, and
    marks at what was traced and measured of the most (NaN: it was not)."""
    figure, axes = canvas(1, 0.9 + 0.42 * len(labels))
    places = np.arange(len(labels))
    axes.barh(places, budgets, height=0.62, color=EMPTY)
    axes.barh(places, most, height=0.62, color=ACCENT, alpha=0.55)
    axes.barh(places, least, height=0.62, color=ACCENT)
    axes.vlines(budgets, places - 0.4, places + 0.4, color=INK, linewidth=1.6)
    for values, name, mark in ((traced, "traced", "D"), (measured, "measured", "^")):
        if np.isfinite(values).any():
            axes.plot(values, places, mark, color=INK, markersize=5, fillstyle="none", label=name)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="lower right", labelcolor=SOFT)
    for place, budget, need in zip(places, budgets, most, strict=True):
        text = f"{format_bytes(need)} of {format_bytes(budget)}  ({100 * need / budget:.0f} %)"
        axes.annotate(text, (max(budget, need), place), (8, 0), textcoords="offset points", va="center", color=SOFT)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, 1.36 * max([*budgets, *most]))
    axes.grid(False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return figure


def traffic(rounds: NDArray[Any], up: NDArray[Any], down: NDArray[Any]) -> Figure:
    """Bytes sent so far, by all clients together."""
    figure, axes = canvas(1, 2.4)
    for values, colour, name in ((np.cumsum(down), ACCENT, "down"), (np.cumsum(up), SECOND, "up")):
        axes.plot(rounds + 1, values, color=colour, marker=dot(rounds))
        axes.annotate(f"{name}  {format_bytes(values[-1])}", (rounds[-1] + 1, values[-1]), (6, 0), color=colour,
                      textcoords="offset points", va="center", annotation_clip=False)  # fmt: skip
    axes.set_title("Bytes on the wire so far, all clients together")
    most = float(max(up.sum(), down.sum(), 1))
    unit = 1024 ** int(math.log(most, 1024))
    axes.set_ylim(0, 1.05 * most)
    axes.set_yticks([unit * tick for tick in MaxNLocator(4).tick_values(0, most / unit) if unit * tick <= 1.05 * most])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / unit:g} {format_bytes(unit).split()[1]}"))
    whole_rounds(axes, rounds)
    return figure


def scalars(values: NDArray[Any], rounds: NDArray[Any], means: NDArray[Any], deviations: NDArray[Any]) -> Figure:
    """The scalars ρ: all of them (or a sample), and their spread over the rounds."""
    figure, (left, right) = canvas(2, 2.7)
    values = values[np.isfinite(values)]
    left.set_title("All scalars ρ")
    if len(values):
        reach = float(np.quantile(np.abs(values), 0.998)) or 1.0
        left.hist(np.clip(values, -reach, reach), bins=61, range=(-reach, reach), color=ACCENT)
        left.axvline(0, color=INK, linewidth=0.8)
    left.set_yticks([])
    left.set_xlabel("ρ = (L₊ − L₋) / 2μ")
    right.set_title("Mean ± standard deviation of a round")
    right.fill_between(rounds + 1, means - deviations, means + deviations, color=ACCENT, alpha=0.22, linewidth=0)
    right.plot(rounds + 1, means, color=ACCENT, linewidth=1.1, marker=dot(rounds))
    right.yaxis.set_major_locator(MaxNLocator(5))
    whole_rounds(right, rounds)
    return figure


def spread(predicted: NDArray[np.float64], observed: NDArray[np.float64]) -> Figure:
    """Mean square of each client's scalars, as the bound's statistics predict it and as it came; equal on the line."""
    figure, (axes, aside) = canvas(2, 2.9)
    low, high = (float(f(np.concatenate([predicted, observed]))) for f in (np.min, np.max))
    low, high = max(low, 1e-12) / 1.5, max(high, 1e-12) * 1.5
    axes.set_title("Mean of ρ², one dot a client")
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8)
    axes.scatter(predicted, observed, s=14, color=ACCENT, alpha=0.7, linewidths=0)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="predicted", ylabel="observed")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    aside.set_title("Observed / predicted")
    ratios = np.log2(np.maximum(observed, 1e-12) / np.maximum(predicted, 1e-12))
    aside.hist(ratios, bins=25, color=ACCENT)
    aside.set_yticks([])
    aside.set_xlabel("log₂; 0: as predicted")
    return figure


def smooth(values: NDArray[Any]) -> NDArray[Any]:
    """Mean of the finite values in a centred window of about a twentieth of the run, shorter at the ends."""
    half, at = len(values) // 40, np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    with np.errstate(invalid="ignore"):
        return np.asarray((sums[high] - sums[low]) / (counts[high] - counts[low]))


def canvas(columns: int, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9.6, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def dot(rounds: NDArray[Any]) -> str:
    """A marker where one round would be a line without length."""
    return "o" if len(rounds) == 1 else ""


def whole_rounds(axes: Axes, rounds: NDArray[Any]) -> None:
    last = int(rounds.max()) + 1 if len(rounds) else 1
    axes.set_xlim(-0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("rounds done")


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element, its ids made unique by `name`, its colours the page's."""
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
