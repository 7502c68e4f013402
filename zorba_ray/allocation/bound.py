"""Our bound Φ(a) = Σ_l [ηΛ_l·Var_l(a) + Bias_l(a)] on the error of a round's step, exactly: docs/allocation.md.

Everything depends on the allocation through power sums S_j[l,q] = Σ_n w_n^j a_nl a_nq, j = 0..3 (o_lq = S_0[l,q],
m_l = S_0[l,l], W_l = S_1[l,l]), and, for rotated plans, through two sums over classes. Weights are scaled to mean 1.
"""

from __future__ import annotations

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
class BoundValue:
    """Φ and its parts, per block [L]; `total` is Φ."""

    variance: Floats  # Var_l, to be multiplied by ηΛ_l
    bias: Floats
    step: Floats  # ηΛ_l

    @property
    def total(self) -> float:
        return float((self.step * self.variance + self.bias).sum())


class Bound:
    """The bound of one instance: constants once, then any number of allocations."""

    def __init__(self, instance: Instance):
        self.instance = instance
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
        self.step = instance.lr * instance.smoothness  # ηΛ_l [L]
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

    def own(self, rows: NDArray[np.int64], totals: Powers, held: Floats, own_pair: Floats) -> tuple[Floats, Floats]:
        """Terms of Var_l and Bias_l [R] that do not multiply d_l; `own_pair` [R] is what `pairs` gives for q = l."""
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
        bias = np.where(k > 0, lasting + (1 - reach) ** 2 * g, g)
        variance = self.kappa / instance.directions * own_pair + s * linear + reach * (1 - reach) * g
        return np.where(k > 0, variance + spread_out - lasting, 0.0), bias

    def value(self, sums: Sums) -> BoundValue:
        """Φ of an allocation given by its sums."""
        rows = np.arange(self.instance.blocks)
        totals = sums.power[:, rows, rows]
        entries = self.pairs(rows, totals, sums.power)
        variance, bias = self.own(rows, totals, sums.held, entries[rows, rows])
        variance = variance + self.instance.sizes / self.instance.directions * entries.sum(axis=1)
        return BoundValue(np.where(totals[0] > 0, variance, 0.0), bias, self.step)

    def of(self, matrix: Matrix) -> BoundValue:
        return self.value(self.sums(matrix))
