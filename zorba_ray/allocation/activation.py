"""The linear part of the programs: who may tune what, what VRAM and compute it takes.

A unit is a set of interchangeable clients: a single client (formulation `direct`) or a whole class (`classes`). The
variable y[u,l] counts the unit's clients that tune block l. For single clients VRAM and compute are exact; for larger
units they are underestimates, exact when blocks cost the same (any counts within the rows can then be dealt out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.memory import Floats, VramModel
from zorba_ray.allocation.solver import Linear, Program, weighted


@dataclass
class Activation:
    """Variables and expressions that all formulations share."""

    unit_of: NDArray[np.int64]  # [N]
    sizes: NDArray[np.int64]  # [U] clients of each unit
    y: list[list[Linear]]  # [U][L]
    m: list[Linear]  # [L]
    vram: Linear  # in bytes, or the worst share of a budget
    compute: Linear  # FLOPs

    def counts(self, x: Floats) -> NDArray[np.int64]:
        return np.array([[round(y.at(x)) for y in row] for row in self.y], dtype=np.int64)


def most_blocks(vram: VramModel, budget: float) -> int:
    """The largest number of blocks that one client of this budget can tune, whichever they are."""
    most = 0
    extra, room = vram.active - vram.frozen, budget - vram.fixed - vram.frozen.sum()
    for buffer in np.unique(np.concatenate([vram.scratch, vram.transit])):
        allowed = np.sort(extra[vram.scratch <= buffer])  # a smaller maximum would admit no more of them
        used = np.cumsum(allowed)
        fits = np.flatnonzero(used + buffer <= room)
        # frozen blocks need their own buffer: with fewer than all active it is at least the smallest transit left out
        most = max(most, int(fits[-1]) + 1 if len(fits) else 0)
    return most


def add_activation(
    program: Program, instance: Instance, unit_of: NDArray[np.int64], worst: bool,
    extra_memory: Sequence[Linear] | None = None, less_coverage: Sequence[Linear] | None = None,
) -> Activation:
    """y, m, the budgets' rows, coverage, and the expressions of VRAM and compute. To explain why nothing fits, units
    may be granted bytes (`extra_memory` [U]) and blocks be let off coverage (`less_coverage` [L])."""
    vram, blocks = instance.vram, instance.blocks
    sizes = np.bincount(unit_of)
    budgets = np.array([instance.budgets[unit_of == u].min() for u in range(len(sizes))])
    alone = vram.alone()
    base, extra = vram.fixed + float(vram.frozen.sum()), vram.active - vram.frozen
    y: list[list[Linear]] = []
    total, compute = Linear(), Linear()
    share = program.variable(0, 1) if worst else Linear()
    for u, budget in enumerate(budgets):
        size = float(sizes[u])
        open_ = (alone <= budget) | (extra_memory is not None)
        row = [program.variable(0, size if open_[block] else 0, integer=True) for block in range(blocks)]
        scale = float(vram.active.max() + vram.scratch.max() + vram.transit.max()) or 1.0
        buffer = program.variable(0, size * max(vram.scratch.max(), vram.transit.max()) / scale)  # in units of `scale`
        for block in range(blocks):
            if vram.scratch[block] > 0:
                program.row(weighted((1.0, buffer), (-vram.scratch[block] / scale, row[block])), lower=0)
            if vram.transit[block] > 0:
                held = vram.transit[block] / scale
                program.row(weighted((1.0, buffer), (held, row[block])), lower=size * held)
        tuned = [(float(extra[block]), row[block]) for block in range(blocks)]
        used = weighted(*tuned, (scale, buffer), constant=size * base)
        granted = extra_memory[u] if extra_memory is not None else Linear()
        program.row(weighted((1 / scale, used), (-1 / scale, granted)), upper=size * budget / scale)
        if extra_memory is None:
            program.row(weighted(*((1.0, each) for each in row)), upper=size * most_blocks(vram, budget))
        total.add(used)
        if worst:
            program.row(weighted((1.0, share), (-1 / (size * budget), used)), lower=0)
        compute.add(add_compute(program, instance, row, size))
        y.append(row)
    m = [weighted(*((1.0, row[block]) for row in y)) for block in range(blocks)]
    for block in range(blocks):
        spared = less_coverage[block] if less_coverage is not None else Linear()
        program.row(weighted((1.0, m[block]), (1.0, spared)), lower=float(instance.coverage[block]))
    return Activation(unit_of, sizes, y, m, share if worst else total, compute)


def add_compute(program: Program, instance: Instance, row: list[Linear], size: float) -> Linear:
    """Trie edges of a unit: r_l ≥ its clients whose first active block is l or earlier."""
    cost, extra = Linear(), float(instance.passes - 1)
    before: Linear | None = None
    reached: list[Linear] = []
    for each in row:
        r = program.variable(0, size)
        program.row(weighted((1.0, r), (-1.0, each)), lower=0)
        if before is not None:
            program.row(weighted((1.0, r), (-1.0, before)), lower=0)
        before = r
        reached.append(r)
    for block, r in enumerate(reached):
        cost.add(r, extra * float(instance.flops[block]))
    anything = float(instance.flops.sum() + instance.flops_before + instance.passes * instance.flops_after)
    return cost.add(reached[-1], anything)
