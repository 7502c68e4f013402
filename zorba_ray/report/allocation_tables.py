"""A plan as text tables: classes, blocks, levels, alternatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.plan import Plan
from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import text_table

NOTHING = 1e-6  # of a value: a bound below that says no more than that no objective is below 0


def measure(objective: str, value: float, worst: bool) -> str:
    """A value in its objective's unit."""
    if not np.isfinite(value):
        return "–"
    if objective == "vram":
        return f"{100 * value:.1f} %" if worst else format_bytes(value)
    if objective == "compute":
        return f"{value:.4g} FLOPs"
    return f"{value:,.0f} rounds" if value >= 1e4 else f"{value:.5g} rounds"


def share(value: float, digits: str) -> str:
    return f"{100 * value:{digits}} %" if np.isfinite(value) else "–"


def classes_table(instance: Instance, plan: Plan) -> str:
    """Per class: budget, predicted VRAM, blocks."""
    used = instance.budgets - plan.slack
    rows = []
    for name, members in zip(instance.class_names, instance.members, strict=True):
        if len(members) == 0:
            continue
        counts = plan.matrix[members].sum(axis=1)
        sets, times = np.unique(plan.matrix[members], axis=0, return_counts=True)
        common = np.flatnonzero(sets[int(np.argmax(times))])
        least, most = used[members].min(), used[members].max()
        vram = format_bytes(most) if least == most else f"{format_bytes(least)} – {format_bytes(most)}"
        blocks = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} – {counts.max()}"
        rows.append([name, f"{len(members):,}", format_bytes(instance.budgets[members].min()), vram,
                     format_bytes(plan.slack[members].min()), blocks, f"{len(sets)}",
                     spans(common.tolist())])  # fmt: skip
    head = ["Class", "Clients", "Budget", "Predicted VRAM", "Least slack", "Blocks each", "Sets", "Commonest set"]
    return text_table(head, rows)


def spans(blocks: Sequence[int]) -> str:
    """Block numbers with runs joined: 0–2, 5."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs) or "none"


def blocks_table(instance: Instance, plan: Plan) -> str:
    """Per block: size, coverage against m_min, what its step gains and costs."""
    rows = [
        [instance.name(block), f"{instance.sizes[block]:,.0f}", f"{plan.coverage[block]:,}",
         f"{instance.coverage[block]}", f"{plan.gain[block]:.4g}", f"{plan.cost[block]:.4g}"]
        for block in range(instance.blocks)
    ]  # fmt: skip
    return text_table(["Block", "Trainable", "Clients m", "m_min", "Gain D", "Cost Q"], rows)


def levels_table(plan: Plan, worst: bool) -> str:
    """Per level: best found, a limit that no plan beats, what later levels were let and took. Convergence is in rounds
    for one unit of loss, 1/M."""
    rows = []
    for level in plan.levels:
        spent = (level.final - level.value) / abs(level.value) if level.value else 0.0
        least = level.bound if level.bound > NOTHING * level.value or level.value == 0 else -np.inf
        best, proven = (measure(level.objective, value, worst) for value in (level.value, least))
        gap = level.gap if np.isfinite(least) else np.inf
        rows.append([
            level.objective, best, proven,
            share(gap, ".2f"), share(level.surrogate_gap, ".2g"), f"{level.epsilon:g}",
            measure(level.objective, level.final, worst), f"{100 * spent:+.2f} %",
            f"{level.formulation}{'' if level.exact else ', underestimate'}", level.used, f"{level.seconds:.2f}",
        ])  # fmt: skip
    head = ["Level", "Best f*", "Limit", "Gap", "MIP gap", "ε", "In the plan", "ε spent", "Program", "Found by",
            "Seconds"]  # fmt: skip
    return text_table(head, rows)


def bought(first: Plan, plan: Plan) -> list[str]:
    """What ε bought: the plan beside that of ε = 0 at every level."""
    texts = [f"merit {_change(first.merit, plan.merit)}", f"VRAM {_change(first.vram, plan.vram)}",
             f"compute {_change(first.compute, plan.compute)}"]  # fmt: skip
    return [f"Against ε = 0, ε buys: {', '.join(texts)}."]


def _change(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before else "±0 %"


def times(value: float, other: float) -> str:
    return f"{value / other:.3f}" if other else "–"


def alternatives_table(plans: Sequence[Plan]) -> str:
    """The plan beside the simple ones; the first is the reference."""
    rows = []
    for plan in plans:
        why = plan.messages[-1].removeprefix("not feasible: ") if not plan.feasible else "yes"
        rows.append([plan.name, f"{plan.merit:.5g}", times(plan.merit, plans[0].merit), f"{plan.rate:.3g}",
                     f"{plan.bound:.5g}", format_bytes(plan.vram), f"{100 * plan.worst:.0f} %", f"{plan.compute:.4g}",
                     why])  # fmt: skip
    head = ["Plan", "Merit", "× plan's", "Best rate", "Bound Φ", "VRAM, all", "Fullest", "FLOPs a round", "Feasible"]
    return text_table(head, rows)
