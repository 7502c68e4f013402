"""Where the i-th value of a block's direction comes from.

A Philox call gives 128 bits, cut into V pieces of 128/V bits, one value a piece (Gaussian 16 bits, V = 8; Rademacher
1 bit, V = 128). Sixteen consecutive calls (the lanes) make a group of 16 V consecutive values, piece by piece, so that
neighbouring values lie in neighbouring lanes and processors can make sixteen of them at once without moving bits about:

    value i:  lane = i mod 16,  piece = (i div 16) mod V,  call = 16 (i div 16 V) + lane

The map is a bijection between values and (call, piece) and needs nothing but i, so any slice can be made alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zorba_ray.config.errors import ConfigError
from zorba_ray.noise.identity import CALL_BITS, Kind

LANES = 16
PIECE_BITS: dict[Kind, int] = {"gaussian": 16, "rademacher": 1}


def values_per_call(kind: Kind) -> int:
    """V, the number of values that one Philox call gives."""
    if kind not in PIECE_BITS:
        raise ConfigError(f"noise: unknown kind {kind!r}; use one of {', '.join(PIECE_BITS)}")
    return 128 // PIECE_BITS[kind]


def place(index: npt.NDArray[np.int64], kind: Kind) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The call and the piece of it that give each value."""
    row, lane = np.divmod(index, LANES)
    group, piece = np.divmod(row, values_per_call(kind))
    return group * LANES + lane, piece


def check_range(kind: Kind, offset: int, count: int) -> None:
    """Refuse values whose call does not fit the counter's call field."""
    limit = values_per_call(kind) << CALL_BITS
    if offset < 0 or count < 0 or offset + count > limit:
        raise ConfigError(
            f"noise: values {offset} to {offset + count} of a block lie outside the {limit} that its counter can name; "
            "split the vector into several blocks"
        )
