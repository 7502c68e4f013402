"""Groups of clients that share a row, and the exact objectives of their rows, kept up to date move by move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.bound import Bound, Powers
from zorba_ray.engine.memory import Floats, Matrix


@dataclass(frozen=True)
class Groups:
    """Clients that will share a row: `of` [N] numbers them; a group lies within one class."""

    of: NDArray[np.int64]  # [N]
    size: NDArray[np.int64]  # [G]
    budget: Floats  # [G]
    unit: NDArray[np.int64]  # [G] class

    def deal(self, rows: Matrix) -> Matrix:
        return rows[self.of]


def make_groups(bound: Bound, most: int) -> Groups:
    """One group per client where they are few, else about `most` groups, each class its share of them."""
    instance = bound.instance
    n = instance.clients
    of = np.zeros(n, dtype=np.int64)
    if n <= most:
        of = np.arange(n)
    else:
        start = 0
        for group in instance.members:
            parts = min(len(group), max(int(np.ceil(most * len(group) / n)), min(len(group), 4)))
            if parts:
                of[group] = start + np.arange(len(group)) * parts // len(group)
                start += parts
    size = np.bincount(of).astype(np.int64)
    first = np.unique(of, return_index=True)[1]
    budget = np.full(len(size), np.inf)
    np.minimum.at(budget, of, instance.budgets)
    return Groups(of, size, budget, instance.class_of[first])


def groups_of_rows(bound: Bound, matrix: Matrix) -> tuple[Groups, Matrix]:
    """Clients of one class with equal rows as groups, and their rows [G, L]."""
    instance = bound.instance
    keys = np.concatenate([instance.class_of[:, None], matrix], axis=1)
    first, of = np.unique(keys, axis=0, return_index=True, return_inverse=True)[1:]
    of = of.reshape(-1).astype(np.int64)
    budget = np.full(len(first), np.inf)
    np.minimum.at(budget, of, instance.budgets)
    return Groups(of, np.bincount(of).astype(np.int64), budget, instance.class_of[first]), matrix[first]


class State:
    """Rows of the groups with everything that a move changes kept up to date."""

    def __init__(self, bound: Bound, groups: Groups, rows: Matrix, worst: bool):
        self.bound, self.groups, self.rows, self.worst = bound, groups, rows.copy(), worst
        instance = bound.instance
        blocks = instance.blocks
        self.all = np.arange(blocks)
        self.flip_mask = np.eye(blocks, dtype=bool)
        powers = np.stack([np.bincount(groups.of, weights=w, minlength=len(groups.size)) for w in bound.powers])
        self.powers = powers  # [4, G] Σ over the group of w^j
        self.factor = bound.half * instance.sizes / instance.directions
        self.version = 0  # of the rows; grows with every change
        self._flips: tuple[int, int, Floats] = (-1, -1, np.zeros(0))
        self.refresh()

    def refresh(self) -> None:
        """Recompute everything from the rows (rounding does not pile up)."""
        instance = self.bound.instance
        a = self.rows.astype(np.float64)
        planes = 1 if instance.equal_weights else 4  # equal weights: all powers are one
        self.power = np.stack([(a * w[:, None]).T @ a for w in self.powers[:planes]])
        held = np.zeros((0, instance.blocks))
        if instance.rotate:
            held = np.zeros((len(self.bound.class_sizes), instance.blocks))
            np.add.at(held, self.groups.unit, self.powers[1][:, None] * a)
        self.held = held
        self.vram = instance.vram.of(self.rows)
        self.compute = instance.compute(self.rows)
        self.entries = np.zeros((instance.blocks, instance.blocks))
        self.per_block = np.zeros(instance.blocks)
        self._evaluate(self.all)

    def _evaluate(self, blocks: NDArray[np.int64]) -> None:
        """C_η of these blocks anew."""
        totals = four(self.power[:, blocks, blocks])
        entries = self.bound.pairs(blocks, totals, four(self.power[:, blocks]))
        self.entries[blocks] = entries
        own = entries[np.arange(len(blocks)), blocks]
        self.per_block[blocks] = self._block_values(blocks, totals, self.held[:, blocks], entries, own)
        self.version += 1

    def _block_values(
        self, blocks: NDArray[np.int64], totals: Powers, held: Floats, entries: Floats, own: Floats
    ) -> Floats:
        inner = np.where(totals[0] > 0, self.factor[blocks] * entries.sum(axis=1), 0.0)
        return inner + self.bound.costs(blocks, *self.bound.own(blocks, totals, held, own))

    @property
    def coverage(self) -> Floats:
        return np.asarray(self.power[0, self.all, self.all])

    def objective(self, name: str) -> float:
        if name == "convergence":
            return float(self.per_block.sum())
        if name == "vram":
            return float((self.vram / self.groups.budget).max() if self.worst else self.groups.size @ self.vram)
        return float(self.groups.size @ self.compute)

    def flips(self, g: int) -> Floats:
        """Change of C_η when group g starts or stops to tune each block, [L]."""
        if self._flips[:2] == (g, self.version):
            return self._flips[2]
        row = self.rows[g].astype(np.float64)
        w = self.powers[: len(self.power), g]
        sign = np.where(self.rows[g], -1.0, 1.0)
        old: Floats = self.power[:, self.all, self.all]
        moved: Floats = self.power + w[:, None, None] * (sign[:, None] * row[None, :])
        totals: Floats = old + w[:, None] * sign
        moved[:, self.all, self.all] = totals
        entries = self.bound.pairs(self.all, four(totals), four(moved))
        held = self.held
        if len(held):
            held = held.copy()
            held[self.groups.unit[g]] += self.powers[1, g] * sign
        own = entries[self.all, self.all]
        change = self._block_values(self.all, four(totals), held, entries, own) - self.per_block
        mine = np.flatnonzero(self.rows[g])  # other blocks of the group meet the flipped one more, or less
        column: Floats = self.power[:, mine] + w[:, None, None] * sign
        column[:, np.arange(len(mine)), mine] = old[:, mine]
        others = (self.bound.pairs(mine, four(old[:, mine]), four(column)) - self.entries[mine])
        others[np.arange(len(mine)), mine] = 0.0
        result: Floats = np.asarray(change + self.factor[mine] @ others)
        self._flips = g, self.version, result
        return result

    def apply(self, g: int, block: int) -> None:
        """Flip one block of one group."""
        sign = -1.0 if self.rows[g, block] else 1.0
        others = self.rows[g].copy()
        others[block] = False
        w = sign * self.powers[: len(self.power), g]
        self.power[:, block, others] += w[:, None]
        self.power[:, others, block] += w[:, None]
        self.power[:, block, block] += w
        if len(self.held):
            self.held[self.groups.unit[g], block] += sign * self.powers[1, g]
        self.rows[g, block] ^= True
        self.vram[g] = self.bound.instance.vram.of(self.rows[g])
        self.compute[g] = self.bound.instance.compute(self.rows[g])
        others[block] = True
        self._evaluate(np.flatnonzero(others))


def four(power: Floats) -> Powers:
    """All four powers; where weights are equal, one array stands for them."""
    return [power[0]] * 4 if len(power) == 1 else power
