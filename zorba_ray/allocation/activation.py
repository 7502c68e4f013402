"""The linear part of the programs: who may tune what, what VRAM and compute it takes.

A unit is a set of interchangeable clients: a single client (formulation `direct`) or a whole class (`counts`). The
variable y[u,l] counts the unit's clients that tune block l. For single clients VRAM and compute are exact; for larger
units they are underestimates, VRAM an exact one when blocks cost the same (any counts within the rows can be dealt).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.solver import Linear, Program, weighted
from zorba_ray.engine.memory import Floats, VramModel

WHOLE = 50  # counts of larger units are reals: whole numbers would change less than dealing them out does


@dataclass
class Compute:
    """FLOPs of a round, and how many clients have their first active block at l or earlier, [L]."""

    flops: Linear
    reached: list[Linear]


@dataclass
class Activation:
    """Variables and expressions that all formulations share; those of compute are added when first asked for."""

    unit_of: NDArray[np.int64]  # [N]
    sizes: NDArray[np.int64]  # [U] clients of each unit
    y: list[list[Linear]]  # [U][L]
    m: list[Linear]  # [L]
    vram: Linear  # in bytes, or the worst share of a budget
    compute: Callable[[], Compute]

    def counts(self, x: Floats) -> NDArray[np.float64]:
        return np.array([[each.at(x) for each in row] for row in self.y])


def most_blocks(vram: VramModel, budget: float) -> int:
    """The largest number of blocks that one client of this budget can tune, whichever they are."""
    most = 0
    extra, room = vram.tuned - vram.frozen, budget - vram.fixed - vram.awake - vram.frozen.sum()
    for buffer in np.unique(vram.scratch):  # of the blocks tuned; those left out may ask for more, never for less
        used = np.cumsum(np.sort(extra[vram.scratch <= buffer]))
        fits = np.flatnonzero(used + buffer <= room)
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
    budgets = np.full(len(sizes), np.inf)
    np.minimum.at(budgets, unit_of, instance.budgets)
    alone, base, extra = vram.alone(), vram.fixed + float(vram.frozen.sum()), vram.tuned - vram.frozen
    scale = float(vram.active.max() + vram.scratch.max() + vram.transit.max()) or 1.0
    y: list[list[Linear]] = []
    total = Linear()
    share = program.variable(0, 1) if worst else Linear()
    for u, budget in enumerate(budgets):
        size = float(sizes[u])
        allowed = (alone <= budget) | (extra_memory is not None)
        row = [program.variable(0, size if allowed[block] else 0, size <= WHOLE) for block in range(blocks)]
        tuned = [(float(extra[block]), row[block]) for block in range(blocks)]
        used = weighted(*tuned, (scale, add_buffer(program, vram, row, size, scale)), constant=size * base)
        if vram.awake:
            used.add(add_awake(program, row, size), vram.awake)
        granted = extra_memory[u] if extra_memory is not None else Linear()
        program.row(weighted((1 / scale, used), (-1 / scale, granted)), upper=size * budget / scale)
        if extra_memory is None:
            program.row(weighted(*((1.0, each) for each in row)), upper=size * most_blocks(vram, budget))
        total.add(used)
        if worst:
            program.row(weighted((1.0, share), (-1 / (size * budget), used)), lower=0)
        y.append(row)
    m = [weighted(*((1.0, row[block]) for row in y)) for block in range(blocks)]
    for block in range(blocks):
        spared = less_coverage[block] if less_coverage is not None else Linear()
        program.row(weighted((1.0, m[block]), (1.0, spared)), lower=float(instance.coverage[block]))
    most = np.array([most_blocks(vram, budget) for budget in budgets])

    def compute() -> Compute:
        if int(sizes.max()) == 1:
            return client_compute(program, instance, y)
        return class_compute(program, instance, sizes, most, m)

    return Activation(unit_of, sizes, y, m, share if worst else total, compute)


def add_awake(program: Program, row: list[Linear], size: float) -> Linear:
    """Clients of a unit that have any active block; of several, at least as many as have the commonest."""
    awake = program.variable(0, size)
    program.row(weighted((1.0, awake), *((-1.0, each) for each in row)), upper=0)
    for each in row:
        program.row(weighted((1.0, awake), (-1.0, each)), lower=0)
    return awake


def add_buffer(program: Program, vram: VramModel, row: list[Linear], size: float, scale: float) -> Linear:
    """What a unit's clients need for the largest scratch or transit, in units of `scale`."""
    if np.ptp(np.concatenate([vram.scratch, vram.transit])) == 0:
        return Linear(constant=size * float(vram.scratch[0]) / scale)
    buffer = program.variable(0, size * float(max(vram.scratch.max(), vram.transit.max())) / scale)
    for block, each in enumerate(row):
        scratch, transit = float(vram.scratch[block]) / scale, float(vram.transit[block]) / scale
        if scratch > 0:
            program.row(weighted((1.0, buffer), (-scratch, each)), lower=0)
        if transit > 0:
            program.row(weighted((1.0, buffer), (transit, each)), lower=size * transit)
    return buffer


def client_compute(program: Program, instance: Instance, y: list[list[Linear]]) -> Compute:
    """Trie edges exactly: r[n,l] is 1 from client n's first active block on."""
    cost, total = Linear(), [Linear() for _ in range(instance.blocks)]
    for row in y:
        before = Linear()
        for block, each in enumerate(row):
            r = program.variable(0, 1)
            program.row(weighted((1.0, r), (-1.0, each)), lower=0)
            if before.terms:
                program.row(weighted((1.0, r), (-1.0, before)), lower=0)
            before = r
            total[block].add(r)
            cost.add(r, float(instance.passes - 1) * float(instance.flops[block]))
        cost.add(before, anything(instance))
    return Compute(cost, total)


def class_compute(
    program: Program, instance: Instance, sizes: NDArray[np.int64], most: NDArray[np.int64], m: list[Linear]
) -> Compute:
    """An underestimate: R_l ≥ clients with a block up to l, of whom each tunes at most min(most, l + 1) of them. What R
    clients can tune is concave in R, the clients of the largest budgets being counted first."""
    n = float(sizes.sum())
    cost, reached, so_far = Linear(), [], Linear()
    before = Linear()
    for block in range(instance.blocks):
        r = program.variable(0, n)
        so_far.add(m[block])
        program.row(weighted((1.0, r), (-1.0, m[block])), lower=0)
        if before.terms:
            program.row(weighted((1.0, r), (-1.0, before)), lower=0)
        able = np.minimum(most, block + 1)
        for rate in np.unique(able):  # so_far ≤ Σ_u size_u·max(able_u − rate, 0) + rate·R
            above = float(sizes @ np.maximum(able - rate, 0))
            program.row(weighted((float(rate), r), (-1.0, so_far)), lower=-above)
        before = r
        reached.append(r)
        cost.add(r, float(instance.passes - 1) * float(instance.flops[block]))
    return Compute(cost.add(before, anything(instance)), reached)


def anything(instance: Instance) -> float:
    """FLOPs of a client that has any active block, before its first one's extra passes."""
    return float(instance.flops.sum() + instance.flops_before + instance.passes * instance.flops_after)
