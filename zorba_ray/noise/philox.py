"""Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in plain NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # what the key's two words grow by after each round
ROUNDS = 10
MASK = 0xFFFFFFFF


def philox(
    counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Ten rounds over arrays of counters, given by their four words below 2^32, which broadcast together."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    for k0, k1 in round_keys(key):
        p, q = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b, c, d = q >> np.uint64(32) ^ b ^ k0, q & np.uint64(MASK), p >> np.uint64(32) ^ d ^ k1, p & np.uint64(MASK)
    return a.astype(np.uint32), b.astype(np.uint32), c.astype(np.uint32), d.astype(np.uint32)


def round_keys(keys: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """The keys of each round, uint64 [..., 10, 2] below 2^32, for keys [..., 2]."""
    growth = np.arange(ROUNDS, dtype=np.uint64)[:, None] * np.array(WEYL, np.uint64)
    return np.asarray(keys, np.uint64)[..., None, :] + growth & np.uint64(MASK)
