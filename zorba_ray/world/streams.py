"""The world's own random streams: one number each under `Domain.WORLD`, so that no two purposes share draws."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from zorba_ray.noise import Domain, generator


class Stream(IntEnum):
    AVAILABLE = 0
    DROPOUT = 1
    SPREAD = 2
    JITTER = 3
    LIARS = 4
    LIE = 5


def world(seed: int, stream: Stream, *indices: int) -> np.random.Generator:
    return generator(seed, Domain.WORLD, stream, *indices)
