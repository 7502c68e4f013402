"""Where a model is split in two, and what that costs. No torch: the allocation asks too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FIRST, SECOND = 1, 2


def parts_of(rows: NDArray[np.bool_], at: int, per_client: bool) -> NDArray[np.int8]:
    """For rows of a[n, l] [..., L]: 0 where a block is not active, else FIRST or SECOND.

    The first part is the first `at` blocks (0: half of all), or per client the first half of its active blocks; the
    middle one of an odd number is in the second part.
    """
    blocks = rows.shape[-1]
    if per_client:
        rank = np.cumsum(rows, axis=-1)  # 1 for the first active block
        first = rank <= rows.sum(axis=-1, keepdims=True) // 2
    else:
        first = np.broadcast_to(np.arange(blocks) < (at or blocks // 2), rows.shape)
    return np.where(rows, np.where(first, FIRST, SECOND), 0).astype(np.int8)


def versions(parts: NDArray[np.int8], directions: int, forks: int, form: str) -> NDArray[np.int64]:
    """How many versions of the hidden state leave each block, [..., L]: edges of the trie of FedSPZO's probes.

    From a part's first active block on, its probes differ. Joint: 2·P₁ versions behind the first part's, 2·P behind the
    second's. Sequential: the two kinds of probes part where the first of them leaves the clean path, which itself goes
    on until both kinds have left it.
    """
    pairs = directions // forks
    first = np.maximum.accumulate(parts == FIRST, axis=-1)
    second = np.maximum.accumulate(parts == SECOND, axis=-1)
    if form == "joint":
        return np.where(second, 2 * directions, np.where(first, 2 * pairs, 1))
    return np.where(first, 2 * pairs, 0) + np.where(second, 2 * directions, 0) + np.where(first & second, 0, 1)
