"""Which client tunes which blocks. No Ray, no torch. Start at `make_plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zorba_ray.allocation.advice import advice
from zorba_ray.allocation.alternatives import NAMES, alternative, given
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.feasibility import afforded, exactly
from zorba_ray.allocation.instance import Instance, instance_from
from zorba_ray.allocation.lexicographic import solve
from zorba_ray.allocation.plan import Level, Plan, describe, rotated
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import AllocationConfig
from zorba_ray.engine.memory import ModelShape, VramModel, textbook
from zorba_ray.world.budgets import Budgets, client_budgets

__all__ = [
    "NAMES", "Bound", "Budgets", "Instance", "Level", "ModelShape", "Plan", "VramModel", "afforded", "alternative",
    "client_budgets", "describe", "instance_from", "make_plan", "make_plans", "rotated", "textbook", "without_program",
]  # fmt: skip


def make_plan(instance: Instance, config: AllocationConfig, seed: int) -> Plan:
    """The plan that `config.plan` names. A simple rule that breaks a budget is refused; one that misses the coverage is
    allowed (blocks that nobody tunes stay as they are) and says so."""
    return make_plans(instance, [config], seed)[0]


def make_plans(instance: Instance, configs: Sequence[AllocationConfig], seed: int) -> list[Plan]:
    """The plans of configs that differ in ε alone, for little more than one of them takes."""
    config = configs[0]
    known = config.statistics == "estimated" or bool(config.gradient or config.batch_variance or config.client_variance)
    if config.plan == "zorba":
        plans = [with_untuned(plan, instance) for plan in solve(instance, configs, seed)]
    else:
        plans = [ruled(instance, each, seed) for each in configs]
    return [replace(p, messages=(*p.messages, *advice(instance, p))) if known else p for p in plans]


def with_untuned(plan: Plan, instance: Instance) -> Plan:
    """Says which blocks nobody tunes, where others are tuned."""
    bare = [instance.name(int(block)) for block in np.flatnonzero(plan.coverage == 0)]
    some = 0 < len(bare) < instance.blocks
    return replace(plan, messages=(*plan.messages, *untuned(bare))) if some else plan


def ruled(instance: Instance, config: AllocationConfig, seed: int) -> Plan:
    """A simple rule's, refused where it does not fit."""
    plan = without_program(instance, config, seed)
    over = int((plan.slack < 0).sum())
    if over:
        worst = exactly(float((instance.budgets - plan.slack).max()))
        raise ConfigError(
            f"allocation.plan={config.plan} does not fit {over} of {instance.clients} clients, which would need up to "
            f"{worst}: raise their budgets, or use allocation.plan=zorba"
        )
    return plan


def without_program(instance: Instance, config: AllocationConfig, seed: int) -> Plan:
    """The plan of a simple rule, or of the rows that are given, also where it does not fit."""
    rows = given(config.rows, instance) if config.plan == "given" else alternative(config.plan, instance, seed)
    return describe(config.plan, rows, Bound(instance))


def untuned(names: Sequence[str]) -> list[str]:
    """What to say of them."""
    first = ", ".join(names[:3]) + " …" * (len(names) > 3)
    return [f"nobody tunes {first} ({len(names)} blocks): they stay as they are; allocation.coverage=1 has each "
            f"tuned, or says what budgets that takes"]  # fmt: skip
