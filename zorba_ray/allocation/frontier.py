"""The Pareto frontier of merit against VRAM: the program solved for a sweep of ε."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.lexicographic import solve
from zorba_ray.allocation.plan import Plan
from zorba_ray.config.schema import AllocationConfig

SWEEP = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5)


def frontier(
    instance: Instance, config: AllocationConfig, seed: int, sweep: Sequence[float] = SWEEP
) -> list[tuple[float, Plan]]:
    """Plans of least VRAM whose merit is at least M*/(1 + ε), without dominated ones."""
    settings = [
        replace(config, order=["convergence", "vram"], epsilon=[epsilon, 0.0], epsilon_kind="relative")
        for epsilon in sweep
    ]
    plans = list(zip(sweep, solve(instance, settings, seed), strict=True))
    return [
        (epsilon, plan) for epsilon, plan in plans
        if not any(dominates(other, plan) for _, other in plans)
    ]


def dominates(one: Plan, other: Plan) -> bool:
    """At least as good in merit and VRAM, and better in one of them."""
    as_good = one.merit >= other.merit and one.vram <= other.vram
    return as_good and (one.merit > other.merit or one.vram < other.vram)
