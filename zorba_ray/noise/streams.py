"""Random numbers for everything that is not a direction: one independent NumPy stream per (seed, domain, indices)."""

from __future__ import annotations

import numpy as np

from zorba_ray.config.errors import ConfigError
from zorba_ray.noise.identity import SEED_BITS, Domain, checked

INDEX_BITS = 32
MAX_INDICES = 6


def generator(seed: int, domain: Domain, *indices: int) -> np.random.Generator:
    """The stream of this name: up to six indices below 2^32.

    NumPy's Philox (4x64) has a 128-bit key and a 256-bit counter. The key holds the seed, the domain and the number of
    indices; the counter's upper 192 bits hold the indices and its lower 64 bits count the draws. The packing is one to
    one, so different names have disjoint counters and never collide, and it needs no hash.
    """
    if len(indices) > MAX_INDICES:
        raise ConfigError(f"noise: a stream takes at most {MAX_INDICES} indices, not {len(indices)}")
    packed = 0
    for position, index in enumerate(indices):
        packed |= checked(f"index {position} of {domain.name}", index, INDEX_BITS) << position * INDEX_BITS
    mask = (1 << 64) - 1
    key = np.array([checked("seed", seed, SEED_BITS), domain | len(indices) << 8], np.uint64)
    counter = np.array([0, packed & mask, packed >> 64 & mask, packed >> 128], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
