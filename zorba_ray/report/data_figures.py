"""A picture of who has which data."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zorba_ray.report.figures import ACCENT, EMPTY, LINE, SECOND, SOFT, canvas
from zorba_ray.report.pictures import Picture, Value, thinned
from zorba_ray.runs.dealt import Dealt

MOST_BARS = 200  # clients drawn; more are thinned evenly
LOOK = (  # labels are told apart without colour, too
    (ACCENT, ""), (SECOND, "//"), (EMPTY, ""), (SOFT, "xx"), (ACCENT, ".."), (SECOND, "\\\\"), (EMPTY, "++"),
    (SOFT, ""),
)  # fmt: skip


def partition(dealt: Dealt) -> Picture:
    """A bar for each client, one part for each label; labels beyond what can be told apart are one, the rest."""
    clients, labels = dealt.counts.shape
    names = [*dealt.labels] or ["examples"]
    counts = dealt.counts
    if labels > len(LOOK):
        often = np.argsort(-counts.sum(axis=0), kind="stable")
        first, rest = often[: len(LOOK) - 1], often[len(LOOK) - 1 :]
        counts = np.column_stack([counts[:, first], counts[:, rest].sum(axis=1)])
        names = [*(names[label] for label in first), f"{len(rest)} more"]
    chosen = np.arange(clients)
    if clients > MOST_BARS:
        chosen = np.linspace(0, clients - 1, MOST_BARS).astype(int)
    data: dict[str, Any] = {"client": list(range(clients)), **{n: counts[:, c].tolist() for c, n in enumerate(names)}}
    values: list[Value] = []
    for place, client in enumerate(chosen.tolist()):
        said = ", ".join(f"{name} {count}" for name, count in zip(names, counts[client].tolist(), strict=True))
        values.append((place + 0.5, float(counts[client].sum()) / 2, f"Client {client}: {said}"))

    def draw() -> Figure:
        figure, axes = canvas(1, 2.8)
        edges, below = np.arange(len(chosen) + 1), np.zeros(len(chosen) + 1)
        for c, name in enumerate(names):
            part = counts[chosen, c]
            above = below + np.append(part, part[-1])
            colour, hatch = LOOK[c]
            axes.fill_between(edges, below, above, step="post", facecolor=colour, hatch=hatch, edgecolor=LINE,
                              linewidth=0, label=name)  # fmt: skip
            below = above
        axes.set(xlim=(0, len(chosen)), ylim=(0, 1.02 * below.max()))
        axes.set_title("Training examples of each client" + ", by label" * bool(dealt.labels))
        axes.set_xlabel("client" if len(chosen) == clients else f"{len(chosen)} of {clients:,} clients, evenly chosen")
        places = [int(tick) for tick in MaxNLocator(10, integer=True).tick_values(0, len(chosen)) if tick < len(chosen)]
        axes.set_xticks([place + 0.5 for place in places], [f"{chosen[place]}" for place in places])
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if dealt.labels:
            axes.legend(frameon=False, ncols=min(len(names), 4), loc="lower right", bbox_to_anchor=(1, 0.99),
                        labelcolor=SOFT)  # fmt: skip
        return figure

    return Picture("partition", draw, data, thinned(values, MOST_BARS))
