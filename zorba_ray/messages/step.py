"""A step: what one round adds to the weights, as coefficients of directions that anyone can regenerate.

`θ_l ← θ_l − (η/P) Σ_j c[l,j] z_j,l`, where column j is direction j mod P of local step j div P. With noise shared by
all clients that is one coefficient per (block, direction), whatever the number of clients; with private noise it is
one scalar per (client, direction) and who had which block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zorba_ray.noise import Direction, Term

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

    def direction(self, seed: int, column: int) -> Direction:
        if self.pool is not None:
            return Direction(seed=seed, round=0, direction=int(self.pool[column]))
        step, p = divmod(column, self.per)
        return Direction(seed=seed, round=self.origin, direction=p, step=self.first + step)

    def terms(self, seed: int, block: int) -> list[Term]:
        """The directions and multipliers that block (a column of the allocation) moves along; zeros move nothing."""
        row = self.coefficients[block]
        scale = -(self.lr / self.per)
        return [
            (self.direction(seed, int(j)), float(np.float32(scale * float(row[j])))) for j in np.flatnonzero(row)
        ]


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

    def terms(self, seed: int, block: int) -> list[Term]:
        members = np.flatnonzero(self.active[:, block])
        total = float(sum(self.weights[members].tolist()))
        scale = -(self.lr / self.per)
        terms = []
        for i in members:
            share = scale * (float(self.weights[i]) / total)
            for j in np.flatnonzero(self.scalars[i]):
                step, p = divmod(int(j), self.per)
                direction = Direction(
                    seed=seed, round=self.origin, direction=p, step=self.first + step, client=int(self.clients[i]) + 1
                )
                terms.append((direction, float(np.float32(share * float(self.scalars[i, j])))))
        return terms


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

    def terms(self, seed: int, block: int) -> list[Term]:
        return [
            (direction, float(np.float32(float(share) * coefficient)))
            for part, share in zip(self.parts, self.shares[:, block], strict=True)
            if share > 0
            for direction, coefficient in part.terms(seed, block)
        ]


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
