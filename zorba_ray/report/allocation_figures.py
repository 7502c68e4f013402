"""Pictures of a plan and of the frontier. The Figure API only: no global plotting state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.plan import Plan

INK, EMPTY, ACCENT, SOFT = "#22303c", "#eef1f4", "#1f77b4", "#8a97a3"
MOST_ROWS = 400  # of the matrix that a picture can show; more are thinned evenly


def draw_plan(instance: Instance, plan: Plan, path: Path) -> None:
    """The matrix, clients ordered by budget, with the coverage above and the used memory at the side."""
    order = np.lexsort((plan.matrix.argmax(axis=1), instance.class_of, instance.budgets))
    if len(order) > MOST_ROWS:
        order = order[np.linspace(0, len(order) - 1, MOST_ROWS).astype(int)]
    figure = Figure(figsize=(9, 7), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[4, 1], height_ratios=[1, 4])
    top, main, side = (figure.add_subplot(grid[i]) for i in ((0, 0), (1, 0), (1, 1)))
    top.bar(np.arange(instance.blocks), plan.coverage, color=ACCENT)
    places, least = np.arange(-1, instance.blocks + 1), np.pad(instance.coverage, 1, mode="edge")
    top.step(places, least, where="mid", color=INK, lw=1)
    top.set(xlim=(-0.5, instance.blocks - 0.5), ylabel="clients m")
    limit = f" (no plan has more than {plan.limit:.4g})" if plan.limit else ""
    top.set_title(f"{plan.name}: merit {plan.merit:.4g}{limit}", loc="left", fontsize=10)
    main.imshow(plan.matrix[order], aspect="auto", interpolation="nearest", cmap=ListedColormap([EMPTY, ACCENT]))
    main.set(xlabel="block", ylabel="clients, smallest budget first")
    main.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(order) <= 64:
        main.hlines(np.arange(0.5, len(order) - 1), -0.5, instance.blocks - 0.5, color="white", lw=1)
    main.vlines(np.arange(0.5, instance.blocks - 1), -0.5, len(order) - 0.5, color="white", lw=1)
    places = np.arange(len(order))
    used = (instance.budgets - plan.slack)[order]
    unit = max(float(instance.budgets.max()), 1.0)
    side.barh(places, used / unit, height=1.0, color=SOFT)
    side.step(instance.budgets[order] / unit, places, color=INK, lw=1)
    side.set(ylim=(len(order) - 0.5, -0.5), xlabel="VRAM of largest budget", yticks=[])
    figure.savefig(path, dpi=150)


def draw_frontier(sweep: Sequence[tuple[float, Plan]], others: Sequence[Plan], path: Path) -> None:
    """Merit against VRAM over ε, with the alternatives; infeasible ones hollow."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    unit, name = memory_unit(max(plan.vram for plan in (*others, *(plan for _, plan in sweep))))
    points = sorted((plan.vram / unit, plan.merit, epsilon) for epsilon, plan in sweep)
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "-o", color=ACCENT, label="zorba over ε")
    for x, y, epsilon in points[:: max(len(points) // 6, 1)]:
        axes.annotate(f"ε {epsilon:g}", (x, y), textcoords="offset points", xytext=(6, 6), fontsize=8, color=SOFT)
    limit = min(plan.limit for _, plan in sweep)
    axes.axhline(limit, color=SOFT, lw=1, ls=":", label="no plan has more")
    for plan in others:
        axes.plot(plan.vram / unit, plan.merit, "s", color=INK, mfc=INK if plan.feasible else "none")
    for names, x, y in neighbours(others):
        axes.annotate(", ".join(names), (x / unit, y), textcoords="offset points", xytext=(7, -10), fontsize=8)
    axes.set(xlabel=f"VRAM over all clients, {name}", ylabel="merit: loss a round at the plan's best rate")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.12)
    axes.legend(frameon=False)
    axes.set_title("Hollow: breaks a budget or misses the coverage", loc="left", fontsize=9, color=SOFT)
    figure.savefig(path, dpi=150)


def memory_unit(most: float) -> tuple[float, str]:
    """The unit in which a quantity of memory has few digits, and its name."""
    power = min(int(np.log2(max(most, 1.0)) // 10), 4)
    return 2.0 ** (10 * power), ["B", "KiB", "MiB", "GiB", "TiB"][power]


def neighbours(plans: Sequence[Plan]) -> list[tuple[list[str], float, float]]:
    """Names of plans that lie so close together that they share a label, and the place of the lowest."""
    groups: list[tuple[list[str], float, float]] = []
    most = max(plan.merit for plan in plans)
    for plan in sorted(plans, key=lambda each: -each.merit):
        for names, x, y in groups:
            if abs(plan.vram / x - 1) < 0.04 and abs(plan.merit - y) < 0.03 * most:
                names.append(plan.name)
                break
        else:
            groups.append(([plan.name], plan.vram, plan.merit))
    return groups
