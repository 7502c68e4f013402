"""Simple plans to compare with. Those that fill a budget are clipped to it by their definition; `full` is not, and is
reported as infeasible where budgets do not allow it. None of them is promised to reach the coverage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.instance import Instance
from zorba_ray.config.errors import ConfigError
from zorba_ray.engine.memory import Matrix
from zorba_ray.noise import Domain, generator

NAMES = ("full", "random", "cyclic", "greedy", "top", "bottom", "one_each")


def alternative(name: str, instance: Instance, seed: int) -> Matrix:
    """The allocation [N, L] of a simple rule.

    full      every client tunes every block.
    top       each client, as many blocks as fit, from the head end down.
    bottom    likewise from the stem end up.
    random    each client takes blocks in an order of its own, drawn from the seed, as long as they fit.
    cyclic    each client goes on where the one before it stopped, as many blocks in a row as fit.
    greedy    each client first takes the blocks that are short of coverage, the large ones first, then the least
              covered; clients with small budgets choose first.
    one_each  each client one block, the least covered of those that fit it; smallest budgets first.
    """
    n, blocks = instance.clients, instance.blocks
    if name == "full":
        return np.ones((n, blocks), dtype=bool)
    fill = Filler(instance)
    if name in ("top", "bottom"):
        order = list(range(blocks))[:: -1 if name == "top" else 1]
        rows = {budget: fill(budget, order) for budget in np.unique(instance.budgets)}
        return np.stack([rows[budget] for budget in instance.budgets])
    if name == "random":
        orders = generator(seed, Domain.ALLOCATION).permuted(np.tile(np.arange(blocks), (n, 1)), axis=1).tolist()
        return np.stack([fill(b, order) for b, order in zip(instance.budgets, orders, strict=True)])
    if name == "cyclic":
        return cyclic(instance, fill)
    return balanced(instance, fill, limit=1 if name == "one_each" else blocks)


def given(rows: Sequence[str], instance: Instance) -> Matrix:
    """The plan that somebody wrote down, a text of 0 and 1 a client; the rows are repeated where clients are more."""
    for row in rows:
        if len(row) != instance.blocks:
            raise ConfigError(f"allocation.rows: {row!r} has {len(row)} digits, the model has {instance.blocks} blocks")
    if len(rows) > instance.clients:
        raise ConfigError(f"allocation.rows has {len(rows)} rows, there are {instance.clients} clients")
    few = np.array([[digit == "1" for digit in row] for row in rows], dtype=bool)
    return few[np.arange(instance.clients) % len(few)]


class Filler:
    """Activates blocks in a given order as long as they fit; plain numbers, because it is called N times."""

    def __init__(self, instance: Instance):
        vram = instance.vram
        self.blocks = vram.blocks
        self.vram = vram
        self.base = vram.fixed + vram.awake + float(vram.frozen.sum())
        self.saved: list[float] = (vram.active - vram.frozen).tolist()
        self.scratch: list[float] = vram.scratch.tolist()
        self.transit: list[float] = vram.transit.tolist()
        self.by_transit: list[int] = np.argsort(-vram.transit, kind="stable").tolist()
        self.alike = len(np.unique(vram.groups)) == 1
        self.room: dict[float, int] = {}  # where blocks cost the same: how many fit a budget

    def __call__(
        self, budget: float, order: Iterable[int], limit: int | None = None, stop: bool = False
    ) -> NDArray[np.bool_]:
        """Blocks that do not fit are skipped, or with `stop` end the filling."""
        if self.alike:
            if budget not in self.room:
                self.room[budget] = int(self._fill(budget, range(self.blocks), None, True).sum())
            row = np.zeros(self.blocks, dtype=bool)
            row[list(order)[: self.room[budget] if limit is None else min(limit, self.room[budget])]] = True
            return row
        return self._fill(budget, order, limit, stop)

    def _fill(self, budget: float, order: Iterable[int], limit: int | None, stop: bool) -> NDArray[np.bool_]:
        row = [False] * self.blocks
        used, largest, first, taken = self.base, 0.0, 0, 0
        for block in order:
            row[block] = True
            after = first
            while after < self.blocks and row[self.by_transit[after]]:
                after += 1
            transit = self.transit[self.by_transit[after]] if after < self.blocks else 0.0
            scratch = max(largest, self.scratch[block])
            if self.vram.exact:
                fits = used + self.saved[block] + max(scratch, transit) <= budget
            else:
                fits = float(self.vram.of(np.array(row))) <= budget
            if fits:
                used, largest, first, taken = used + self.saved[block], scratch, after, taken + 1
                if taken == limit:
                    break
            else:
                row[block] = False
                if stop:
                    break
        return np.array(row)


def cyclic(instance: Instance, fill: Filler) -> Matrix:
    rows, start, blocks = [], 0, instance.blocks
    known: dict[tuple[float, int], NDArray[np.bool_]] = {}
    for budget in instance.budgets.tolist():
        if (budget, start) not in known:
            known[budget, start] = fill(budget, [(start + step) % blocks for step in range(blocks)], stop=True)
        rows.append(known[budget, start])
        start = (start + int(rows[-1].sum())) % blocks
    return np.stack(rows)


def balanced(instance: Instance, fill: Filler, limit: int) -> Matrix:
    """Rows filled with the blocks that are short of coverage, then with the least covered; small budgets first, and
    large blocks first among equals."""
    matrix = np.zeros((instance.clients, instance.blocks), dtype=bool)
    covered = np.zeros(instance.blocks, dtype=np.int64)
    alone = -instance.vram.alone()
    for n in np.argsort(instance.budgets, kind="stable"):
        enough = covered >= instance.coverage
        order = np.lexsort((alone, covered, enough) if limit == 1 else (covered, alone, enough) if not enough.all()
                           else (alone, covered))
        matrix[n] = fill(float(instance.budgets[n]), order.tolist(), limit)
        covered += matrix[n]
    return matrix
