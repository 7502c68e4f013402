"""Simple plans to compare with. Those that fill a budget are clipped to it by their definition; `full` is not, and is
reported as infeasible where budgets do not allow it. None of them is promised to reach the coverage."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.memory import Matrix
from zorba_ray.noise import Domain, generator

NAMES = ("full", "random", "cyclic", "greedy", "top", "bottom", "one_each")


def alternative(name: str, instance: Instance, seed: int) -> Matrix:
    """The allocation [N, L] of a simple rule.

    full      every client tunes every block.
    top       each client, as many blocks as fit, from the head end down.
    bottom    likewise from the stem end up.
    random    each client takes blocks in an order of its own, drawn from the seed, as long as they fit.
    cyclic    each client goes on where the one before it stopped, as many blocks in a row as fit.
    greedy    like random, but each client first takes the blocks that are furthest from their coverage, then the
              least covered; clients with small budgets choose first.
    one_each  each client one block, the least covered of those that fit it; smallest budgets first.
    """
    n, blocks = instance.clients, instance.blocks
    if name == "full":
        return np.ones((n, blocks), dtype=bool)
    if name in ("top", "bottom"):
        order = np.arange(blocks)[:: -1 if name == "top" else 1]
        rows = {budget: fill(instance, budget, order) for budget in np.unique(instance.budgets)}
        return np.stack([rows[budget] for budget in instance.budgets])
    if name == "random":
        orders = generator(seed, Domain.ALLOCATION).permuted(np.tile(np.arange(blocks), (n, 1)), axis=1)
        return np.stack([fill(instance, b, order) for b, order in zip(instance.budgets, orders, strict=True)])
    if name == "cyclic":
        return cyclic(instance)
    return balanced(instance, limit=1 if name == "one_each" else blocks)


def fill(instance: Instance, budget: float, order: Iterable[int], limit: int | None = None) -> NDArray[np.bool_]:
    """Activate blocks in the given order as long as the next one fits, skipping those that do not."""
    vram = instance.vram
    row = np.zeros(vram.blocks, dtype=bool)
    kept, saved, taken = vram.fixed + vram.frozen.sum(), vram.active - vram.frozen, 0
    for block in order:
        row[block] = True
        buffer = np.where(row, vram.scratch, vram.transit).max()
        if kept + saved[block] + buffer <= budget and vram.of(row) <= budget:
            kept += saved[block]
            taken += 1
            if taken == limit:
                break
        else:
            row[block] = False
    return row


def cyclic(instance: Instance) -> Matrix:
    rows, start = [], 0
    for budget in instance.budgets:
        row = np.zeros(instance.blocks, dtype=bool)
        for step in range(instance.blocks):
            block = (start + step) % instance.blocks
            row[block] = True
            if instance.vram.of(row) > budget:
                row[block] = False
                break
        rows.append(row)
        start = (start + int(row.sum())) % instance.blocks
    return np.stack(rows)


def balanced(instance: Instance, limit: int) -> Matrix:
    """Rows filled with the blocks that are short of coverage, then with the least covered; small budgets first."""
    matrix = np.zeros((instance.clients, instance.blocks), dtype=bool)
    covered = np.zeros(instance.blocks, dtype=np.int64)
    alone = instance.vram.alone()
    for n in np.lexsort((np.arange(instance.clients), instance.budgets)):
        lacking = np.maximum(instance.coverage - covered, 0)
        order = np.lexsort((np.arange(instance.blocks), covered, -alone, lacking == 0))
        matrix[n] = fill(instance, instance.budgets[n], order if limit > 1 else _least(covered, lacking, alone), limit)
        covered += matrix[n]
    return matrix


def _least(covered: NDArray[np.int64], lacking: NDArray[np.int64], alone: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.lexsort((np.arange(len(covered)), -alone, covered, lacking == 0)).astype(np.int64)
