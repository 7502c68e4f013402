"""A step: what one round adds to the weights, as coefficients of directions that anyone can regenerate.

`θ_l ← θ_l − (η/P) Σ_p c[l,p] z_p,l`. With noise shared by all clients that is one coefficient per (block, direction),
whatever the number of clients; with private noise it is one scalar per (client, direction) and who had which block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.noise import Direction, Term


@dataclass(frozen=True)
class SharedStep:
    """Step of a round whose directions were shared: `coefficients` is c, float32 [L, P]."""

    round: int
    lr: float
    coefficients: NDArray[np.float32]

    def terms(self, seed: int, block: int) -> list[Term]:
        """The directions and multipliers that block (a column of the allocation) moves along; zeros move nothing."""
        row = self.coefficients[block]
        scale = -(self.lr / row.size)
        return [
            (Direction(seed=seed, round=self.round, direction=p), float(np.float32(scale * float(c))))
            for p, c in enumerate(row)
            if c != 0
        ]

    def payload(self) -> bytes:
        """The coefficients as they would travel: little-endian float32."""
        return self.coefficients.astype("<f4").tobytes()


@dataclass(frozen=True)
class PrivateStep:
    """Step of a round in which each client had noise of its own.

    `clients` int64 [C], `scalars` ρ float32 [C, P], `weights` float64 [C], `active` bool [C, L]: client n moves block l
    by its own ρ and noise, weighted by w_n / Σ_{n∈A_l} w_n.
    """

    round: int
    lr: float
    clients: NDArray[np.int64]
    scalars: NDArray[np.float32]
    weights: NDArray[np.float64]
    active: NDArray[np.bool_]

    def terms(self, seed: int, block: int) -> list[Term]:
        members = np.flatnonzero(self.active[:, block])
        total = float(sum(self.weights[members].tolist()))
        scale = -(self.lr / self.scalars.shape[1])
        return [
            (
                Direction(seed=seed, round=self.round, direction=p, client=int(self.clients[i]) + 1),
                float(np.float32(scale * (float(self.weights[i]) / total) * float(rho))),
            )
            for i in members
            for p, rho in enumerate(self.scalars[i])
            if rho != 0
        ]

    def payload(self) -> bytes:
        """The participants' scalars, and who they were; weights and the allocation are known to all."""
        return self.clients.astype("<u4").tobytes() + self.scalars.astype("<f4").tobytes()


Step = SharedStep | PrivateStep
