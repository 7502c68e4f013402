"""C_η exactly, as a linear expression of binaries: the program for small instances, with equal weights.

For each block the coverage m_l is one of finitely many values, and for each pair the overlap o_lq another; Φ is a sum
of tables over (m_l, o_lq). Where a table is convex in o, the weights on its entries need not be integer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.activation import Activation
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.solver import Linear, Program, weighted
from zorba_ray.engine.memory import Matrix


def table_size(clients: int, blocks: int) -> int:
    """Columns that the tables need, roughly."""
    return blocks * (blocks - 1) * (clients + 1) * (clients + 2) // 2


def add_tables(
    program: Program, bound: Bound, activation: Activation, overlaps: dict[tuple[int, int], Linear],
    held: list[list[Linear]], scale: float,
) -> Linear:
    """C_η/scale. `overlaps` give o_lq for l < q; `held` [K][L] the clients of each class that tune a block."""
    instance, n = bound.instance, bound.instance.clients
    phi = Linear()
    for block in range(instance.blocks):
        values = np.arange(int(instance.coverage[block]), n + 1)
        chosen = [program.variable(0, 1, integer=True) for _ in values]
        program.row(weighted(*((1.0, each) for each in chosen)), lower=1, upper=1)
        count = weighted(*((float(v), each) for v, each in zip(values, chosen, strict=True)))
        program.row(weighted((1.0, count), (-1.0, activation.m[block])), lower=0, upper=0)
        totals = np.tile(values.astype(np.float64), (4, 1))
        where = np.full(len(values), block)
        own_pair = bound.pairs(where, totals, np.repeat(totals[:, :, None], instance.blocks, axis=2))[:, block]
        nothing = np.zeros((len(held), len(values)))
        moment, lasting, reach = bound.own(where, totals, nothing, own_pair)
        pair = np.where(values > 0, instance.sizes[block] / instance.directions * own_pair, 0.0)
        own = bound.costs(where, moment + pair, lasting, reach)
        for value, each in zip(own, chosen, strict=True):
            phi.add(each, float(value) / scale)
        for q in range(instance.blocks):
            if q != block:
                overlap = overlaps[(min(block, q), max(block, q))]
                phi.add(_pair(program, bound, block, q, values, chosen, overlap, scale))
        for k, row in enumerate(held):
            if len(bound.members[k]):
                phi.add(_held(program, bound, block, k, values, chosen, row[block], scale, own))
    return phi


def _pair(
    program: Program, bound: Bound, block: int, q: int, values: NDArray[np.int64], chosen: list[Linear],
    overlap: Linear, scale: float,
) -> Linear:
    """The summand of C_η that o_lq adds to block l."""
    instance = bound.instance
    total, expression = Linear(), Linear()
    for value, each in zip(values, chosen, strict=True):
        o = np.arange(value + 1, dtype=np.float64)
        totals = np.full((4, len(o)), float(value))
        power = np.repeat(np.tile(o, (4, 1))[:, :, None], instance.blocks, axis=2)
        table = bound.pairs(np.full(len(o), block), totals, power)[:, q] if value else np.zeros(1)
        table = bound.half[block] * instance.sizes[block] / instance.directions * table / scale
        concave = len(table) > 2 and np.diff(table, 2).min() < -1e-12 * max(abs(table).max(), 1e-300)
        entries = [program.variable(0, 1, integer=bool(concave)) for _ in o]
        program.row(weighted(*((1.0, e) for e in entries), (-1.0, each)), lower=0, upper=0)
        for size, entry, cost in zip(o, entries, table, strict=True):
            total.add(entry, float(size))
            expression.add(entry, float(cost))
    program.row(weighted((1.0, total), (-1.0, overlap)), lower=0, upper=0)
    return expression


def _held(
    program: Program, bound: Bound, block: int, k: int, values: NDArray[np.int64], chosen: list[Linear], count: Linear,
    scale: float, own: NDArray[np.float64],
) -> Linear:
    """What class k's share x of a rotated block adds to what lasts: r²τ² x²/(N_k m²)."""
    instance = bound.instance
    size = len(bound.members[k])
    total, expression = Linear(), Linear()
    for value, each in zip(values, chosen, strict=True):
        x = np.arange(min(size, int(value)) + 1, dtype=np.float64)
        table = np.zeros(len(x))
        if value:
            factor = bound.reach[value] ** 2 * bound.tau[block] * instance.horizon / 2 / scale
            table = factor * (x**2 / size / value**2 - 2 * x / value / instance.clients)
        entries = [program.variable(0, 1) for _ in x]
        program.row(weighted(*((1.0, e) for e in entries), (-1.0, each)), lower=0, upper=0)
        for number, entry, cost in zip(x, entries, table, strict=True):
            total.add(entry, float(number))
            expression.add(entry, float(cost))
    program.row(weighted((1.0, total), (-1.0, count)), lower=0, upper=0)
    return expression


def all_patterns(bound: Bound, budget: float) -> Matrix:
    """The block sets that fit a budget, [S, L]."""
    blocks = bound.instance.blocks
    sets = (np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1).astype(bool)
    return sets[bound.instance.vram.of(sets) <= budget]
