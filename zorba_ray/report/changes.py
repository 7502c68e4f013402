"""The allocation as it changed: what each plan of a run gives each block, and how far it is from the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zorba_ray.allocation.plan import Plan
from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import percent
from zorba_ray.report.figures import ACTIVE_RGB, INK, block_ticks, canvas
from zorba_ray.report.pictures import Picture, Value, thinned

COLUMNS = 360  # of the picture
MOST_NUMBERS = 120  # written into its fields
ROWS = 12  # plans that the table has; more are thinned evenly


def coverage(plans: Mapping[int, Plan], blocks: Sequence[str], rounds: int) -> Picture:
    """How many clients tune each block, over the rounds; `plans` by the round from which each holds."""
    starts = sorted(plans)
    ends = [*starts[1:], max(rounds, starts[-1] + 1)]
    counts = np.stack([plans[start].coverage for start in starts])
    rows = [(start, block, n) for start, row in zip(starts, counts.tolist(), strict=True)
            for block, n in zip(blocks, row, strict=True)]  # fmt: skip
    data: dict[str, Any] = {name: list(column) for name, column in
                            zip(("from_round", "block", "clients"), zip(*rows, strict=True), strict=True)}  # fmt: skip
    values: list[Value] = [
        ((start + end) / 2, float(place), f"{block}: {n:,.0f} clients from round {start + 1} on")
        for start, end, row in zip(starts, ends, counts.tolist(), strict=True)
        for place, (block, n) in enumerate(zip(blocks, row, strict=True))
    ]

    def draw() -> Figure:
        figure, axes = canvas(1, min(5.0, 1.1 + 0.22 * len(blocks)))
        axes.set_title("Clients that tune each block, over the rounds: the stronger the colour, the more")
        at = np.linspace(0, ends[-1], min(COLUMNS, ends[-1]), endpoint=False)
        shares = counts[np.searchsorted(starts, at, side="right") - 1].T / max(1, counts.max())  # [L, columns]
        image = np.zeros((*shares.shape, 4), dtype=np.uint8)
        image[..., :3] = ACTIVE_RGB
        image[..., 3] = np.round(255 * (0.06 + 0.94 * shares))
        extent = (0, ends[-1], len(blocks) - 0.5, -0.5)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="none")
        axes.set_yticks(*block_ticks(blocks))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("rounds done")
        axes.grid(False)
        if len(values) <= MOST_NUMBERS:
            for (x, y, _), n in zip(values, counts.reshape(-1).tolist(), strict=True):
                axes.annotate(f"{n:,.0f}", (x, y), ha="center", va="center", color=INK)
        return figure

    return Picture("allocation-changes", draw, data, thinned(values, 200))


def table_of(plans: Mapping[int, Plan]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a plan each, with the share of client × block pairs that it changed."""
    starts = sorted(plans)
    kept = [starts[i] for i in np.unique(np.linspace(0, len(starts) - 1, min(ROWS, len(starts))).astype(int))]
    rows = []
    for start in kept:
        plan, before = plans[start], starts[max(0, starts.index(start) - 1)]
        changed = percent(float((plan.matrix != plans[before].matrix).mean())) if start != starts[0] else "–"
        rows.append([f"{start + 1}", plan.name, percent(float(plan.matrix.mean())), changed, f"{plan.merit:.4g}",
                     f"{plan.rate:.3g}", format_bytes(plan.vram)])  # fmt: skip
    return ["From round", "Chosen by", "Pairs tuned", "Changed", "Merit", "Its best rate", "VRAM, all clients"], rows
