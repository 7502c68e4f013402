"""What a plan's step is worth, exactly: its merit, and Φ, our bound on its error. Formulas: docs/allocation.md.

To second order a round at rate η brings the loss down by `η D − ½ η² Q`: D is what its mean step gains, less what a
plan that stays loses over the horizon, Q the curvature that the step meets. At its own best rate η* = D/Q that is the
merit M = D²/2Q. Programs and searches want a sum over blocks instead: the cost `C_η = ΣG − (D − ½ η Q)`, less of which
is more progress at η; M is the most of `η (ΣG − C_η)` over η.

Everything depends on the allocation through power sums S_j[l,q] = Σ_n w_n^j a_nl a_nq, j = 0..3 (o_lq = S_0[l,q],
m_l = S_0[l,l], W_l = S_1[l,l]), and, for rotated plans, through two sums over classes. Weights are scaled to mean 1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.participation import participation
from zorba_ray.engine.memory import Floats, Matrix

Powers = Floats | list[Floats]  # four arrays, of the powers 0 to 3 of the weights
KAPPA = {"gaussian": 1.0, "rademacher": -1.0}  # fourth moment less two: the 1/d_l correction


@dataclass(frozen=True)
class Sums:
    """What the bound needs of an allocation. With equal weights the four powers are one and the same array."""

    power: Floats  # [4, L, L]
    held: Floats  # [K, L] weighted number of clients of each class that hold a block (rotation only; else K = 0)


@dataclass(frozen=True)
class Worth:
    """What a plan's step does to each block, [L]."""

    gain: Floats  # D_l = r_l G_l − ½ x lasting_l
    cost: Floats  # Q_l = Λ_l E‖step_l‖²
    variance: Floats  # Var_l
    bias: Floats  # Bias_l
    phi: Floats  # ηΛ_l Var_l + Bias_l, at the rate of the config

    @property
    def merit(self) -> float:
        """M: how much a round at the plan's best rate brings the loss down; 0 where no rate does."""
        gain, cost = float(self.gain.sum()), float(self.cost.sum())
        return gain**2 / (2 * cost) if gain > 0 and cost > 0 else 0.0

    @property
    def rate(self) -> float:
        """η*, that best rate; 0 where there is none."""
        gain, cost = float(self.gain.sum()), float(self.cost.sum())
        return gain / cost if gain > 0 and cost > 0 else 0.0

    def progress(self, rate: float) -> float:
        """η D − ½ η² Q."""
        return rate * float(self.gain.sum()) - rate**2 / 2 * float(self.cost.sum())


class Bound:
    """The moments of one instance's step: constants once, then any number of allocations. `rate` is the η of C_η."""

    def __init__(self, instance: Instance, rate: float = 0.0):
        self.instance = instance
        self.rate = rate
        n = instance.clients
        scaled = instance.weights / instance.weights.mean()
        self.weights = np.ones(n) if instance.equal_weights else scaled
        self.members = instance.members
        if instance.rotate:  # within a class, a row may sit on any client: powers of weights count as the class's mean
            powers = np.ones((4, n))
            for group in self.members:
                for j in range(4):
                    powers[j, group] = (self.weights[group] ** j).mean() if len(group) else 0.0
            self.powers = powers
        else:
            self.powers = np.stack([self.weights**j for j in range(4)])
        self.class_sizes = np.array([max(len(group), 1) for group in self.members], dtype=np.float64)
        self.class_weights = np.array([self.weights[g].mean() if len(g) else 0.0 for g in self.members])
        self.total_weight = float(n)
        self.q = float((self.weights**2).sum()) / n**2  # Σ ω_n²
        self.q_rotated = float((self.class_sizes * self.class_weights**2).sum()) / n**2
        self.tau = instance.client_variance / (1 - self.q) if n > 1 else np.zeros(instance.blocks)
        self.reach, self.spread, self.jitter = participation(n, instance.taking_part)
        self.half = rate / 2 * instance.smoothness  # ½ηΛ_l [L]
        self.gain = np.broadcast_to(instance.gain, (instance.blocks, instance.blocks))
        self.kappa = KAPPA[instance.kind]

    def sums(self, matrix: Matrix) -> Sums:
        """Power sums of a full matrix [N, L]."""
        a = matrix.astype(np.float64)
        if self.instance.equal_weights:
            power = np.broadcast_to(a.T @ a, (4, *2 * (a.shape[1],))).copy()
        else:
            power = np.stack([(a * w[:, None]).T @ a for w in self.powers])
        held = np.zeros((0, a.shape[1]))
        if self.instance.rotate:
            held = np.stack([w * a[g].sum(axis=0) for w, g in zip(self.class_weights, self.members, strict=True)])
        return Sums(power, held)

    def pairs(self, rows: NDArray[np.int64], totals: Powers, power: Powers) -> Floats:
        """Second moments gain_lq·E‖v_lq‖² as Var_l sums them (without d_l/P): entries [R, L] for the blocks `rows` [R].

        `totals` [4, R] are S_j[l,l] and `power` [4, R, L] the entries S_j[l,q]. Rows without clients give 0.
        """
        return self.gain[rows] * self._moments(totals, power)

    def _moments(self, totals: Powers, power: Powers) -> Floats:
        g, s, tau = self.instance.gradient, self.instance.batch_variance, self.tau
        count, w1, w2 = totals[0], np.where(totals[1] > 1e-9, totals[1], 1.0), totals[2]
        k = np.rint(count).astype(np.int64)
        reach, spread, jitter = (table[k][:, None] for table in (self.reach, self.spread, self.jitter))
        inverse = 1 / w1[:, None]
        if not self.instance.shared:
            v = power[2] * (g + s + tau * (1 + self.q)) - 2 * tau * power[3] / self.total_weight
            return np.asarray(spread * inverse**2 * v)
        c = power[1] * inverse
        if self.instance.equal_weights:
            second = reach * c**2 + jitter * c * (1 - c)
            linear = spread * c * inverse
            dev = linear + second * (self.q - 2 / self.total_weight)
            return np.asarray(second * g + linear * s + dev * tau)
        scale = count[:, None] * inverse**2
        second = reach * c**2 + jitter * scale * (power[2] * (1 - 2 * c) + c**2 * w2[:, None])
        linear = spread * power[2] * inverse**2
        x = power[2] * inverse / self.total_weight
        cross = scale * (power[3] / self.total_weight * (1 - c) - x * (power[2] - c * w2[:, None]))
        dev = linear - 2 * (reach * c * x + jitter * cross) + second * self.q
        return np.asarray(second * g + linear * s + dev * tau)

    @property
    def most(self) -> float:
        """ΣG: what C_η is when nothing moves, and D at most."""
        return float(self.instance.gradient.sum())

    def at(self, rate: float) -> Bound:
        """The same with another rate of C_η."""
        other = copy.copy(self)
        other.rate, other.half = rate, rate / 2 * self.instance.smoothness
        return other

    def own(
        self, rows: NDArray[np.int64], totals: Powers, held: Floats, own_pair: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Of the step's error: its second moment without what multiplies d_l, the part of it that lasts, both [R], and
        r_l, the chance that the block moves. `own_pair` [R] is what `pairs` gives for q = l."""
        instance = self.instance
        g, s, tau = instance.gradient[rows], instance.batch_variance[rows], self.tau[rows]
        count, w1, w2 = totals[0], np.where(totals[1] > 1e-9, totals[1], 1.0), totals[2]
        k = np.rint(count).astype(np.int64)
        reach, spread = self.reach[k], self.spread[k]
        linear = spread * w2 / w1**2
        spread_out = tau * (linear - 2 * reach * w2 / (w1 * self.total_weight) + reach * self.q)
        if instance.rotate:
            p2 = (held**2 / self.class_sizes[:, None]).sum(axis=0)
            p1 = (held * self.class_weights[:, None]).sum(axis=0)
            q = self.q_rotated
        else:
            p2, p1, q = w2, w2, self.q
        lasting = reach**2 * tau * (p2 / w1**2 - 2 * p1 / (w1 * self.total_weight) + q)
        moment = self.kappa / instance.directions * own_pair + s * linear + reach * (1 - reach) * g + spread_out
        some = k > 0
        return np.where(some, moment, 0.0), np.where(some, lasting, 0.0), np.where(some, reach, 0.0)

    def split(
        self, rows: NDArray[np.int64], moment: Floats, lasting: Floats, reach: Floats
    ) -> tuple[Floats, Floats]:
        """D_l and Q_l [R]: error and mean together are the step's second moment."""
        g = self.instance.gradient[rows]
        gain = reach * g - self.instance.horizon / 2 * lasting
        return gain, self.instance.smoothness[rows] * (moment + reach**2 * g)

    def costs(self, rows: NDArray[np.int64], moment: Floats, lasting: Floats, reach: Floats) -> Floats:
        """The summands of C_η [R]; moments may be rows of several plans."""
        gain, cost = self.split(rows, moment, lasting, reach)
        return np.asarray(self.instance.gradient[rows] - gain + self.rate / 2 * cost)

    def value(self, sums: Sums) -> Worth:
        """Of an allocation given by its sums."""
        instance = self.instance
        rows = np.arange(instance.blocks)
        totals = sums.power[:, rows, rows]
        entries = self.pairs(rows, totals, sums.power)
        moment, lasting, reach = self.own(rows, totals, sums.held, entries[rows, rows])
        moment = moment + np.where(totals[0] > 0, instance.sizes / instance.directions * entries.sum(axis=1), 0.0)
        gain, cost = self.split(rows, moment, lasting, reach)
        variance, bias = moment - lasting, lasting + (1 - reach) ** 2 * instance.gradient
        return Worth(gain, cost, variance, bias, instance.lr * instance.smoothness * variance + bias)

    def of(self, matrix: Matrix) -> Worth:
        return self.value(self.sums(matrix))
