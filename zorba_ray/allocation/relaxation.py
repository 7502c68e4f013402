"""A proven underestimate of C_η, convex in the logarithms of coverage, so a linear program with few cuts holds it.

Derivation in docs/allocation.md. In short, with e_l the mean number of other blocks that a client of block l tunes,
Σ_n over A_l of anything is bounded by Cauchy–Schwarz through h_l = s_l Σ_{n∈A_l} 1/Σ_{q∈A_n} s_q, whose sum over blocks
is at most N whatever the plan: a client can only divide itself among its blocks. It never overestimates a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.activation import Activation
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.solver import Linear, Program, weighted
from zorba_ray.engine.memory import Floats


@dataclass
class Curve:
    """z ≥ f(v), f convex: held by tangents, added where a solution lies below it."""

    z: Linear
    v: Linear
    tangent: Callable[[float], tuple[float, float]]  # v₀ → value and slope at v₀
    release: Linear | None = None  # added to z: lets the curve go when the block is not trained

    def cut(self, program: Program, at: float) -> None:
        value, slope = self.tangent(at)
        row = weighted((1.0, self.z), (-slope, self.v))
        if self.release is not None:
            row.add(self.release)
        program.row(row, lower=value - slope * at)

    def violation(self, x: Floats) -> float:
        value, _ = self.tangent(self.v.at(x))
        return value - self.z.at(x) - (self.release.at(x) if self.release is not None else 0.0)


@dataclass
class Relaxation:
    """The expression of the underestimate of C_η and the curves that hold it."""

    phi: Linear
    curves: list[Curve]
    shares: list[tuple[float, list[Linear]]]  # weight of a client, and h (or h′, or k) summed up to each block
    released: list[Linear]

    def divide(self, program: Program, reached: list[Linear]) -> None:
        """Only clients that tune a block up to l can have divided themselves among the blocks up to l."""
        for weight, so_far in self.shares:
            for total, released, clients in zip(so_far, self.released, reached, strict=True):
                program.row(weighted((weight, clients), (1.0, released), (-1.0, total)), lower=0)

    def tighten(self, program: Program, x: Floats, tolerance: float) -> bool:
        """Add the tangents that x misses; False when there is none."""
        added = False
        for curve in self.curves:
            if curve.violation(x) > tolerance * max(1.0, abs(curve.z.at(x))):
                curve.cut(program, curve.v.at(x))
                added = True
        return added


@dataclass(frozen=True)
class Constants:
    """What the underestimate needs of an instance."""

    low: NDArray[np.int64]  # [L] least coverage of a block that is trained
    high: NDArray[np.int64]  # [L] most
    curved: Floats  # [L] Ĝ: coefficient of C_lq²
    linear: Floats  # [L] Ŝ: coefficient of o_lq/m_l²
    weight: Floats  # [L] ½ηΛ_l d_l/P, times the least gain_lq
    lightest: float
    heaviest: float  # weights, of mean 1


def constants(bound: Bound) -> Constants:
    instance = bound.instance
    alone = instance.vram.alone()
    high = np.array([(instance.budgets >= need).sum() for need in alone], dtype=np.int64)
    low = np.maximum(instance.coverage, 1)
    n, g, s, tau = instance.clients, instance.gradient, instance.batch_variance, bound.tau
    counts = np.arange(int(low.min()), n + 1)
    reach, spread = float(bound.reach[counts].min()), float(bound.spread[counts].min())
    if not instance.shared:
        share = float(bound.weights.max()) / n
        curved, linear = np.zeros_like(g), spread * (g + s + tau * max(1 + bound.q - 2 * share, 0.0))
    elif instance.equal_weights:
        curved, linear = g - tau / n, spread * (s + tau)
        negative = curved < 0
        linear = np.where(negative, np.maximum(linear + curved * high, 0.0), linear)
        curved = np.where(negative, 0.0, reach * curved)
    else:
        curved, linear = reach * g, spread * s
    weight = bound.half * instance.sizes / instance.directions * bound.gain.min(axis=1)
    return Constants(low, high, curved, linear, weight, float(bound.weights.min()), float(bound.weights.max()))


def own_terms(bound: Bound, block: int, counts: NDArray[np.int64]) -> Floats:
    """Least value of block l's summand of C_η without what other blocks add, for each coverage m."""
    instance, n = bound.instance, bound.instance.clients
    m = counts.astype(np.float64)
    reach, spread = bound.reach[counts], bound.spread[counts]
    g, s, tau = instance.gradient[block], instance.batch_variance[block], bound.tau[block]
    if instance.equal_weights:
        apart = np.maximum(1 / m - 1 / n, 0.0)  # ‖π − ω‖²
        out = spread / m - 2 * reach / n + reach / n
    else:
        heavy = np.cumsum(np.sort(bound.weights)[::-1])[counts - 1] / n  # most weight that m clients have
        apart = np.where(counts < n, (1 - heavy) ** 2 * n / (m * np.maximum(n - m, 1)), 0.0)
        apart = np.zeros_like(m) if instance.rotate else np.maximum(apart, 0.0)
        out = reach * apart
    out = np.maximum(out, 0.0)
    if instance.shared:
        pair = reach * g + spread / m * s + tau * out
    else:
        heaviest = float(bound.weights.max()) / n
        pair = spread / m * (g + s + tau * max(1 + bound.q - 2 * heaviest, 0.0))
    pair = float(bound.gain[block, block]) * pair
    lasting = np.zeros_like(m) if instance.rotate else reach**2 * tau * apart  # at best all of it averages out
    moment = (instance.sizes[block] + bound.kappa) / instance.directions * pair + s * spread / m
    moment = moment + reach * (1 - reach) * g + tau * out
    return bound.costs(np.full(len(counts), block), moment, lasting, reach)


def supporting_lines(x: Floats, f: Floats, count: int = 24) -> list[tuple[float, float]]:
    """Lines (intercept, slope) below all points (x, f), close to their lower convex hull."""
    if len(x) == 1:
        return [(float(f[0]), 0.0)]
    picks = np.unique(np.searchsorted(x, np.linspace(x[0], x[-1], count)).clip(0, len(x) - 1))
    slopes = np.concatenate([np.diff(f[picks]) / np.diff(x[picks]), [(f[-1] - f[0]) / (x[-1] - x[0])]])
    first = (f[1] - f[0]) / (x[1] - x[0])
    return [(float((f - slope * x).min()), float(slope)) for slope in np.unique(np.append(slopes, first))]


def add_relaxation(program: Program, bound: Bound, activation: Activation, scale: float) -> Relaxation:
    """C_η/scale underestimated, as an expression of the program."""
    instance = bound.instance
    c = constants(bound)
    blocks, n = instance.blocks, float(instance.clients)
    curves: list[Curve] = []
    phi, sums = Linear(), [Linear() for _ in range(3)]  # Σ over the blocks so far of h, h′ and k
    partial: list[list[Linear]] = [[], [], []]
    released_so_far: list[Linear] = []
    both = c.curved + c.linear
    spread_costs = c.curved > 0
    inverse = np.where(spread_costs, 1 / np.where(spread_costs, c.curved, 1.0), 0.0)
    released = Linear()
    for block in range(blocks):
        low, high = int(c.low[block]), max(int(c.high[block]), int(c.low[block]))
        counts = np.arange(low, high + 1)
        x_all, own, m = np.log(counts), own_terms(bound, block, counts), activation.m[block]
        g = float(instance.gradient[block])
        trained: Linear | None = None
        if instance.coverage[block] == 0:
            trained = program.variable(0, 1, integer=True)
            program.row(weighted((1.0, m), (-1.0, trained)), lower=0)
            program.row(weighted((1.0, m), (-n, trained)), upper=0)
        idle = weighted((-1.0, trained), constant=1.0) if trained is not None else Linear()
        released.add(idle)
        count = weighted((1.0, m), (1.0, idle))  # at least 1
        row = program.variable(0, np.inf)
        x = program.variable(0.0, float(np.log(high)))
        curves.append(Curve(weighted((-1.0, x)), count, _minus_log))
        weight = float(c.weight[block]) / scale

        others = np.delete(inverse, block)
        joint = 1 / others.sum() if blocks > 1 and spread_costs.sum() == blocks and others.sum() > 0 else 0.0
        first = [(own - c.weight[block] * c.linear[block] / counts, weight * float(c.linear[block]), 0)]
        if instance.shared:
            first.append((own - c.weight[block] * both[block] / counts, weight * float(both[block]), 1))
        for own_part, factor, which in first:
            lines = [(a / scale, b / scale) for a, b in supporting_lines(x_all, own_part)]
            summand = weighted((1.0, row))
            ceiling = max(a + b * float(np.log(max(low, 1))) for a, b in lines) if trained is not None else 0.0
            if factor > 0:
                h, e = program.variable(0, n), program.variable(0, np.inf)
                program.row(weighted((1.0, count), (-1.0, h)), lower=0)
                sums[which].add(h)
                curves.append(Curve(e, h, _inverse))
                summand.add(e, -factor)
                ceiling += factor
            if which == 0 and joint > 0 and weight > 0:
                k, overlap = program.variable(0, n), program.variable(0, np.inf)
                least = c.lightest * inverse[block] / inverse.sum()  # k of one client that tunes all blocks
                y = program.variable(min(float(np.log(least)), -np.log(n)), np.log(n))
                program.row(weighted((c.heaviest, count), (-1.0, k)), lower=0)
                sums[2].add(k)
                curves.append(Curve(weighted((-1.0, y)), k, _minus_log))
                ratio = weighted((1.0, x), (-1.0, y), constant=float(np.log(c.lightest)))
                curves.append(Curve(overlap, ratio, _square_of_excess))
                summand.add(overlap, -weight * joint)
            release = weighted((ceiling, idle)) if trained is not None else None
            curves.append(Curve(summand, x, _Lines(lines), release))
        if trained is not None:
            program.row(weighted((1.0, row), (-g / scale, idle)), lower=0)
        phi.add(row)
        for total, so_far in zip(sums, partial, strict=True):
            so_far.append(weighted((1.0, total)))
        released_so_far.append(weighted((1.0, released)))
    for total in sums:
        if total.terms:
            program.row(weighted((1.0, total), (-1.0, released)), upper=n)
    for curve in curves:
        top = program.upper[next(iter(curve.v.terms))]
        for at in np.geomspace(1.0, max(n, 2.0), 5) if curve.tangent in (_minus_log, _inverse) else np.linspace(
            0, np.log(max(n, 2.0)) if np.isinf(top) else top, 4
        ):
            curve.cut(program, float(at))
    weights = (1.0, 1.0, c.heaviest)
    shares = [(w, so_far) for w, so_far in zip(weights, partial, strict=True) if so_far[-1].terms]
    return Relaxation(phi, curves, shares, released_so_far)


def _minus_log(v: float) -> tuple[float, float]:
    v = max(v, 1e-3)
    return -float(np.log(v)), -1 / v


def _inverse(v: float) -> tuple[float, float]:
    v = max(v, 1e-3)
    return 1 / v, -1 / v**2


def _square_of_excess(v: float) -> tuple[float, float]:
    """(e^v − 1)² for v > 0, else 0."""
    if v <= 0:
        return 0.0, 0.0
    e = float(np.exp(v))
    return (e - 1) ** 2, 2 * (e - 1) * e


class _Lines:
    """The greatest of several lines, as a curve."""

    def __init__(self, lines: list[tuple[float, float]]):
        self.lines = lines

    def __call__(self, v: float) -> tuple[float, float]:
        return max((a + b * v, b) for a, b in self.lines)
