"""Every plan of a tiny instance: the plainest proof, and the only exact one where unequal weights make what a plan
is worth no function of counts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from zorba_ray.allocation.bound import Bound, Sums
from zorba_ray.allocation.tables import all_patterns
from zorba_ray.engine.memory import Floats, Matrix

CHUNK = 4096


@dataclass(frozen=True)
class AllPlans:
    """The matrices [B, N, L] that keep budgets and coverage, their gain and cost and other objectives [B]."""

    matrices: Matrix
    gain: Floats  # D
    cost: Floats  # Q
    values: dict[str, Floats]

    @property
    def merit(self) -> Floats:
        return np.where(self.gain > 0, self.gain**2 / (2 * np.where(self.cost > 0, self.cost, np.inf)), 0.0)


def enumerable(bound: Bound, formulation: str) -> bool:
    """Whether to enumerate: tiny instances, unless a program was asked for that is exact too."""
    instance = bound.instance
    exact = formulation != "auto" and instance.equal_weights
    return instance.clients * instance.blocks <= 16 and not exact


def all_plans(bound: Bound, worst: bool) -> AllPlans:
    instance = bound.instance
    patterns = [all_patterns(bound, budget) for budget in instance.budgets]
    choices = np.array(list(product(*(range(len(p)) for p in patterns))), dtype=np.int64)
    matrices = np.stack([p[choices[:, n]] for n, p in enumerate(patterns)], axis=1)
    matrices = matrices[(matrices.sum(axis=1) >= instance.coverage).all(axis=1)]
    worth = [totals(bound, matrices[i : i + CHUNK]) for i in range(0, len(matrices), CHUNK)]
    gain, cost = np.concatenate([*worth, np.zeros((2, 0))], axis=1)  # [B] each
    vram = instance.vram.of(matrices)
    values = {
        "vram": (vram / instance.budgets).max(axis=1) if worst else vram.sum(axis=1),
        "compute": instance.compute(matrices).sum(axis=1),
    }
    return AllPlans(matrices, gain, cost, values)


def totals(bound: Bound, matrices: Matrix) -> Floats:
    """D and Q [2, B] of many matrices [B, N, L] at once."""
    instance = bound.instance
    count, blocks = len(matrices), instance.blocks
    a = matrices.astype(np.float64)
    power = np.stack([np.einsum("bnl,n,bnq->blq", a, w, a) for w in bound.powers]).reshape(4, count * blocks, blocks)
    held = np.zeros((0, count * blocks))
    if instance.rotate:
        each = [w * a[:, group].sum(axis=1) for w, group in zip(bound.class_weights, bound.members, strict=True)]
        held = np.stack(each).reshape(len(each), count * blocks)
    rows, flat = np.tile(np.arange(blocks), count), np.arange(count * blocks)
    own = Sums(power, held).power[:, flat, rows]
    entries = bound.pairs(rows, own, power)
    moment, lasting, reach = bound.own(rows, own, held, entries[flat, rows])
    inner = np.where(own[0] > 0, instance.sizes[rows] / instance.directions * entries.sum(axis=1), 0.0)
    parts = bound.split(rows, moment + inner, lasting, reach)
    return np.stack([part.reshape(count, blocks).sum(axis=1) for part in parts])
