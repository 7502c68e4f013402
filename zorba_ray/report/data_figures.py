"""A picture of who has which data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

INK = "#22303c"
MOST_BARS = 200  # clients drawn; more are thinned evenly
HATCHES = ("", "//", "..", "xx", "\\\\", "++")  # labels are told apart without colour, too


def draw_partition(counts: NDArray[np.int64], labels: Sequence[str], path: Path) -> None:
    """A bar for each client, one part for each label; `counts` [N, C] are examples."""
    chosen = np.arange(len(counts))
    if len(chosen) > MOST_BARS:
        chosen = np.linspace(0, len(counts) - 1, MOST_BARS).astype(int)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    colours = mpl.colormaps["viridis"](np.linspace(0.15, 0.9, counts.shape[1]))
    below = np.zeros(len(chosen))
    for c in range(counts.shape[1]):
        axes.bar(
            np.arange(len(chosen)), counts[chosen, c], bottom=below, width=0.9, color=colours[c],
            hatch=HATCHES[c % len(HATCHES)], edgecolor="white", lw=0.3, label=labels[c] if labels else None,
        )  # fmt: skip
        below += counts[chosen, c]
    thinned = f", {len(chosen)} of {len(counts)}" if len(chosen) < len(counts) else ""
    axes.set(xlabel=f"client{thinned}", ylabel="training examples", xlim=(-0.7, len(chosen) - 0.3))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    if labels:
        axes.legend(frameon=False, ncols=min(len(labels), 6), loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=150)
