"""Which client tunes which blocks. No Ray, no torch. Start at `make_plan`."""

from __future__ import annotations

from zorba_ray.allocation.alternatives import NAMES, alternative
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.feasibility import exactly
from zorba_ray.allocation.instance import Instance, instance_from
from zorba_ray.allocation.lexicographic import solve
from zorba_ray.allocation.plan import Level, Plan, describe, rotated
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import AllocationConfig
from zorba_ray.engine.memory import ModelShape, VramModel, gradient_model, textbook, vram_model
from zorba_ray.world.budgets import Budgets, client_budgets

__all__ = [
    "NAMES", "Bound", "Budgets", "Instance", "Level", "ModelShape", "Plan", "VramModel", "alternative",
    "client_budgets", "describe", "gradient_model", "instance_from", "make_plan", "rotated", "textbook", "vram_model",
]  # fmt: skip


def make_plan(instance: Instance, config: AllocationConfig, seed: int) -> Plan:
    """The plan that `config.plan` names. A simple rule that breaks a budget is refused; one that misses the coverage is
    allowed (blocks that nobody tunes stay as they are) and says so."""
    if config.plan == "zorba":
        return solve(instance, config, seed)
    plan = describe(config.plan, alternative(config.plan, instance, seed), Bound(instance))
    over = int((plan.slack < 0).sum())
    if over:
        worst = exactly(float((instance.budgets - plan.slack).max()))
        raise ConfigError(
            f"allocation.plan={config.plan} does not fit {over} of {instance.clients} clients, which would need up to "
            f"{worst}: raise their budgets, or use allocation.plan=zorba"
        )
    return plan
