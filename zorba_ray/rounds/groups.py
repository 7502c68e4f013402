"""Which clients' mini-batches share one product (`clients.fuse`): a round's plan says, wherever it is carried out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FINE, COARSE = 8, 32  # tokens: buckets end at multiples of the one up to 64, of the other beyond


def groups_of(rows: NDArray[np.bool_], fuse: int) -> list[NDArray[np.int64]]:
    """Positions of clients with rows [C, L] of a[n, l]: those of one row in their order, so many at a time.

    Of some whole groups alone it makes the same ones again, so that who is given them need not be told which they are.
    """
    alike: dict[bytes, list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault(row.tobytes(), []).append(i)
    return [
        np.array(members[start : start + fuse], dtype=np.int64)
        for members in alike.values()
        for start in range(0, len(members), fuse)
    ]


def bucket_of(length: int) -> int:
    """Mini-batches of one group are joined, padded to the longest of them, whose longest texts are in one bucket."""
    step = FINE if length <= 2 * COARSE else COARSE
    return -(-length // step) * step
