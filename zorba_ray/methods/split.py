"""Where a model is split in two, and what probing it so costs. No torch: the allocation asks too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST, SECOND = 1, 2


@dataclass(frozen=True)
class Split:
    """FedSPZO's P directions, m forks, place of the split and form, as in the config."""

    directions: int
    forks: int
    at: int
    per_client: bool
    form: str

    @property
    def pairs(self) -> int:
        """P₁ = P / m."""
        return self.directions // self.forks

    def parts(self, rows: NDArray[np.bool_]) -> NDArray[np.int8]:
        """For rows of a[n, l] [..., L]: 0 where a block is not active, else FIRST or SECOND.

        The first part is the first `at` blocks (0: half of all), or per client the first half of its active blocks; the
        middle one of an odd number is in the second part.
        """
        blocks = rows.shape[-1]
        if self.per_client:
            rank = np.cumsum(rows, axis=-1)  # 1 for the first active block
            first = rank <= rows.sum(axis=-1, keepdims=True) // 2
        else:
            first = np.broadcast_to(np.arange(blocks) < (self.at or blocks // 2), rows.shape)
        return np.where(rows, np.where(first, FIRST, SECOND), 0).astype(np.int8)

    def gain(self, blocks: int) -> NDArray[np.float64]:
        """How much of block q's gradient reaches block l's step as noise, [l, q], where 1 is what P directions of all
        blocks at once let through. The first part has P/m directions; in the joint form the second part's noise in its
        scalars averages over m forks, in the sequential form neither part meets the other.

        A split per client is not one of blocks, and counts as P directions for all."""
        if self.per_client:
            return np.ones((blocks, blocks))
        first = self.parts(np.ones(blocks, dtype=np.bool_)) == FIRST
        apart = first[:, None] != first
        return np.where(apart, float(self.form == "joint"), np.where(first, float(self.forks), 1.0))

    def versions(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many versions of the hidden state leave each block, [..., L]: edges of the trie of the probes.

        From a part's first active block on, its probes differ. Joint: 2·P₁ versions behind the first part's, 2·P behind
        the second's. Sequential: two kinds of probes, each leaving the clean path at its part's first active block; the
        clean path goes on until both have left it.
        """
        parts = self.parts(rows)
        first = np.maximum.accumulate(parts == FIRST, axis=-1)
        second = np.maximum.accumulate(parts == SECOND, axis=-1)
        wide, narrow = 2 * self.directions, 2 * self.pairs
        if self.form == "joint":
            return np.where(second, wide, np.where(first, narrow, 1))
        return np.asarray(narrow * first + wide * second + ~(first & second), dtype=np.int64)
