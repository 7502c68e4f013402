"""The program of an instance, in one of its formulations.

direct    a[n,l] of every client; exact VRAM and compute. For budgets that all differ.
patterns  how many clients of each class have each admissible block set; exact VRAM, compute and overlaps.
counts    how many clients of each class tune each block; for many blocks. Dealt out by `dealing`.

Φ enters by tables (exact, small instances, equal weights) or by its convex underestimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zorba_ray.allocation.activation import Activation, Compute, add_activation
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.dealing import deal
from zorba_ray.allocation.relaxation import Relaxation, add_relaxation
from zorba_ray.allocation.solver import Linear, Program, weighted
from zorba_ray.allocation.state import Groups
from zorba_ray.allocation.tables import add_tables, all_patterns, table_size
from zorba_ray.engine.memory import Floats, Matrix

TABLE_COLUMNS = 2500  # Φ by tables up to this many columns
PATTERN_COLUMNS = 2000
NUDGE = 1e-6


@dataclass
class Formulation:
    """A program with an expression for each objective, in units of `scales`."""

    name: str
    program: Program
    objectives: dict[str, Linear]
    scales: dict[str, float]
    relaxation: Relaxation | None  # None: Φ is exact
    rows: Callable[[Floats, Groups], Matrix]  # a solution as rows of groups
    exact: dict[str, bool]
    activation: Activation

    def objective(self, name: str) -> Linear:
        """The expression of an objective. That of compute, which is large, is added when it is first wanted."""
        if name not in self.objectives:
            compute = self.activation.compute()
            self.objectives[name] = weighted((1 / self.scales[name], compute.flops))
            if self.relaxation is not None:
                self.relaxation.divide(self.program, compute.reached)
        return self.objectives[name]


def formulate(bound: Bound, kind: str, worst: bool, scales: dict[str, float]) -> Formulation:
    """Build the program; `kind` is auto, direct or classes."""
    instance = bound.instance
    n, blocks = instance.clients, instance.blocks
    filled = [k for k, members in enumerate(instance.members) if len(members)]
    few_patterns = blocks <= 10 and len(filled) * 2**blocks <= PATTERN_COLUMNS
    small = instance.equal_weights and table_size(n, blocks) <= TABLE_COLUMNS
    if kind == "direct" or (kind == "auto" and len(filled) == n and not (small and few_patterns)):
        name = "direct"
    else:
        name = "patterns" if few_patterns else "counts"
    single = name == "direct" or len(filled) == n
    tables = small and (name == "patterns" or (single and n * blocks**2 <= TABLE_COLUMNS))
    program = Program()
    overlaps: dict[tuple[int, int], Linear] = {}
    rows: Callable[[Floats, Groups], Matrix]
    if name == "patterns":
        activation, overlaps, rows = add_patterns(program, bound, filled, worst)
    else:
        unit_of = np.arange(n) if name == "direct" else np.searchsorted(filled, instance.class_of)
        activation = add_activation(program, instance, unit_of, worst)

        def rows(x: Floats, groups: Groups) -> Matrix:
            return deal(activation, activation.counts(x), bound, groups)

        if tables:
            overlaps = add_products(program, activation.y)
    relaxation = None
    if tables:
        held = [[Linear()] * blocks for _ in range(len(instance.members) if instance.rotate else 0)]
        if instance.rotate:
            for k, members in enumerate(instance.members):
                units = np.unique(activation.unit_of[members])
                held[k] = [weighted(*((1.0, activation.y[u][block]) for u in units)) for block in range(blocks)]
        phi = add_tables(program, bound, activation, overlaps, held, scales["convergence"])
    else:
        relaxation = add_relaxation(program, bound, activation, scales["convergence"])
        # Where the underestimate is flat in coverage, the least is wanted; this moves its value by at most NUDGE.
        phi = weighted((1.0, relaxation.phi), *((NUDGE / n / blocks, m) for m in activation.m), constant=-NUDGE)
    counted = single or name == "patterns"
    alike = len(np.unique(instance.vram.groups)) == 1
    return Formulation(
        name=name,
        program=program,
        objectives={
            "convergence": phi,
            "vram": weighted((1 / scales["vram"], activation.vram)),
        },
        activation=activation,
        scales=scales,
        relaxation=relaxation,
        rows=rows,
        exact={
            "convergence": tables,
            "vram": name == "patterns" or (instance.vram.exact and (counted or alike)),
            "compute": name == "patterns" or (single and instance.split is None),
        },
    )


def add_products(program: Program, y: list[list[Linear]]) -> dict[tuple[int, int], Linear]:
    """o_lq = Σ_n a_nl a_nq, each product by its envelope."""
    blocks = len(y[0])
    overlaps = {}
    for block in range(blocks):
        for q in range(block + 1, blocks):
            total = Linear()
            for row in y:
                both = program.variable(0, 1)
                program.row(weighted((1.0, both), (-1.0, row[block])), upper=0)
                program.row(weighted((1.0, both), (-1.0, row[q])), upper=0)
                program.row(weighted((1.0, both), (-1.0, row[block]), (-1.0, row[q])), lower=-1)
                total.add(both)
            overlaps[(block, q)] = total
    return overlaps


def add_patterns(
    program: Program, bound: Bound, filled: list[int], worst: bool
) -> tuple[Activation, dict[tuple[int, int], Linear], Callable[[Floats, Groups], Matrix]]:
    """Variables x[k,s]: clients of class k with block set s."""
    instance = bound.instance
    blocks = instance.blocks
    y: list[list[Linear]] = []
    overlaps = {(block, q): Linear() for block in range(blocks) for q in range(block + 1, blocks)}
    total, compute, reached = Linear(), Linear(), [Linear() for _ in range(blocks)]
    share = program.variable(0, 1) if worst else Linear()
    columns: list[tuple[Matrix, list[Linear]]] = []
    for k in filled:
        size = float(len(instance.members[k]))
        patterns = all_patterns(bound, instance.class_budgets[k])
        vram, flops = instance.vram.of(patterns), instance.compute(patterns)
        x = [program.variable(0, size, integer=True) for _ in patterns]
        program.row(weighted(*((1.0, each) for each in x)), lower=size, upper=size)
        row = [Linear() for _ in range(blocks)]
        for pattern, each, bytes_, cost in zip(patterns, x, vram, flops, strict=True):
            total.add(each, float(bytes_))
            compute.add(each, float(cost))
            on = [int(block) for block in np.flatnonzero(pattern)]
            for block in range(on[0] if on else blocks, blocks):
                reached[block].add(each)
            for i, block in enumerate(on):
                row[block].add(each)
                for other in on[i + 1 :]:
                    overlaps[(block, other)].add(each)
            if worst:
                used = program.variable(0, 1, integer=True)
                program.row(weighted((1.0, each), (-size, used)), upper=0)
                program.row(weighted((1.0, share), (-float(bytes_) / instance.class_budgets[k], used)), lower=0)
        columns.append((patterns, x))
        y.append(row)
    m = [weighted(*((1.0, row[block]) for row in y)) for block in range(blocks)]
    for block in range(blocks):
        program.row(m[block], lower=float(instance.coverage[block]))
    unit_of = np.searchsorted(filled, instance.class_of)
    activation = Activation(
        unit_of, np.bincount(unit_of), y, m, share if worst else total, lambda: Compute(compute, reached)
    )

    def rows(x: Floats, groups: Groups) -> Matrix:
        matrix = np.zeros((len(groups.size), blocks), dtype=bool)
        for k, (patterns, variables) in zip(filled, columns, strict=True):
            counts = np.array([round(each.at(x)) for each in variables], dtype=np.float64)
            members = np.flatnonzero(groups.unit == k)
            ends = np.cumsum(counts)  # whoever stands at a group's middle gives the group its row
            places = np.cumsum(groups.size[members]) - groups.size[members] / 2
            matrix[members] = patterns[np.searchsorted(ends, places, side="right").clip(0, len(patterns) - 1)]
        return matrix

    return activation, overlaps, rows


