"""A step: what one round adds to the weights, as coefficients of directions that anyone can regenerate.

`θ_l ← θ_l − (η/P) Σ_j c[l,j] z_j,l`, where column j is direction j mod P of local step j div P. With noise shared by
all clients that is one coefficient per (block, direction), whatever the number of clients; with private noise it is
one scalar per (client, direction) and who had which block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zorba_ray.noise import Terms, chained

Vectors = Mapping[int, NDArray[np.float32]]  # by block (column of the allocation)


class Held(Protocol):
    """Vectors that lie elsewhere (a file of the ledger) until they are asked for."""

    def load(self) -> Vectors: ...


@dataclass(frozen=True)
class SharedStep:
    """Step of a round whose directions were shared: `coefficients` is c, float32 [L, J].

    `per` is P, by default J (one local step). `origin` is the round that named the directions, by default this one.
    With a `pool` int32 [J], column j is direction pool[j] of round 0 instead. `first` is the local step of column 0:
    above 0 only in a move that a client makes by itself, never in the ledger. `amplitudes` float32 [J] and `drawn`
    int32 [J] are for drawing from the pool later: the sum of |ρ| over all draws of each column, and their number.
    """

    round: int
    lr: float
    coefficients: NDArray[np.float32]
    per: int = 0
    origin: int = -1
    pool: NDArray[np.int32] | None = None
    amplitudes: NDArray[np.float32] | None = None
    drawn: NDArray[np.int32] | None = None
    first: int = 0

    def __post_init__(self) -> None:
        set_defaults(self, self.coefficients.shape[1])

    def moved(self) -> NDArray[np.bool_]:
        """Which blocks it changes, [L]."""
        return np.asarray(self.coefficients.any(axis=1))

    def terms(self, seed: int, block: int) -> Terms:
        """The directions and multipliers that block (a column of the allocation) moves along; zeros move nothing."""
        columns = np.flatnonzero(self.coefficients[block])
        shared = np.zeros(len(columns), np.int64)
        c = (-(self.lr / self.per) * self.coefficients[block, columns].astype(np.float64)).astype(np.float32)
        if self.pool is not None:
            return Terms(seed, shared, self.pool[columns].astype(np.int64), shared, shared, c)
        step, p = np.divmod(columns, self.per)
        return Terms(seed, shared + self.origin, p, self.first + step, shared, c)


@dataclass(frozen=True)
class PrivateStep:
    """Step of a round in which each client had noise of its own.

    `clients` int64 [C], `scalars` ρ float32 [C, J], `weights` float64 [C], `active` bool [C, L]: client n moves block l
    by its own ρ and noise, weighted by w_n / Σ_{n∈A_l} w_n. `per`, `origin` and `first` as in `SharedStep`.
    """

    round: int
    lr: float
    clients: NDArray[np.int64]
    scalars: NDArray[np.float32]
    weights: NDArray[np.float64]
    active: NDArray[np.bool_]
    per: int = 0
    origin: int = -1
    first: int = 0

    def __post_init__(self) -> None:
        set_defaults(self, self.scalars.shape[1])

    def moved(self) -> NDArray[np.bool_]:
        """Which blocks it changes, [L]."""
        return np.asarray(self.active[self.scalars.any(axis=1)].any(axis=0))

    def terms(self, seed: int, block: int) -> Terms:
        members = np.flatnonzero(self.active[:, block])
        weights, scalars = self.weights[members], self.scalars[members]
        shares = -(self.lr / self.per) * (weights / float(sum(weights.tolist())))
        i, columns = np.nonzero(scalars)
        step, p = np.divmod(columns, self.per)
        c = (shares[i] * scalars[i, columns].astype(np.float64)).astype(np.float32)
        return Terms(seed, np.full(len(c), self.origin), p, self.first + step, self.clients[members][i] + 1, c)


def set_defaults(step: SharedStep | PrivateStep, columns: int) -> None:
    """`per` and `origin` of a frozen step that was made without them."""
    if not step.per:
        object.__setattr__(step, "per", columns)
    if step.origin < 0:
        object.__setattr__(step, "origin", step.round)
    assert columns % step.per == 0 or getattr(step, "pool", None) is not None, f"{columns} columns, {step.per} a step"


@dataclass(frozen=True)
class CombinedStep:
    """Several steps in one: reports of this round, and late ones of earlier rounds along their own directions.

    `shares` float64 [K, L]: the weight that part k has in the average of block l, so that on-time and late clients are
    normalised together. Without parts nothing moves: a round in which nobody reported.
    """

    round: int
    lr: float
    parts: tuple[SharedStep | PrivateStep, ...]
    shares: NDArray[np.float64]

    def moved(self) -> NDArray[np.bool_]:
        """Which blocks it changes, [L]."""
        moved = [part.moved() & (share > 0) for part, share in zip(self.parts, self.shares, strict=True)]
        return np.asarray(np.any(moved, axis=0)) if moved else np.zeros(self.shares.shape[1], dtype=np.bool_)

    def terms(self, seed: int, block: int) -> Terms:
        """Those of its parts, one after the other."""
        shares = self.shares[:, block].tolist()
        parts = [
            replace(terms, coefficients=(share * terms.coefficients.astype(np.float64)).astype(np.float32))
            for part, share in zip(self.parts, shares, strict=True) if share > 0
            for terms in [part.terms(seed, block)]
        ]
        return chained([Terms.none(seed), *parts])


def no_step(round: int, lr: float, blocks: int) -> CombinedStep:
    """What a round does in which nobody reported: nothing."""
    return CombinedStep(round, lr, (), np.zeros((0, blocks)))


@dataclass(frozen=True, eq=False)
class TensorStep:
    """Step of a first-order method: `θ_l ← θ_l + v_l` for the blocks that `vectors` has, or with `whole` `θ_l ← v_l`.

    In memory until the ledger has written them to a file; loaded again whenever they are asked for, and sent whole.
    `residual`: what aggregation had to leave out, as a share.
    """

    round: int
    lr: float
    blocks: tuple[bool, ...]  # [L] whether it changes the block
    held: Vectors | Held
    whole: bool = False
    residual: float | None = None

    @property
    def vectors(self) -> Vectors:
        return self.held if isinstance(self.held, Mapping) else self.held.load()

    def moved(self) -> NDArray[np.bool_]:
        """Which blocks it changes, [L]."""
        return np.array(self.blocks, dtype=np.bool_)

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorStep, (self.round, self.lr, self.blocks, self.vectors, self.whole, self.residual)


Step = SharedStep | PrivateStep | CombinedStep | TensorStep
