"""The plain reference: what the fast kernels must reproduce bit for bit, written to be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zorba_ray.noise.identity import Direction, Kind, Term, pack
from zorba_ray.noise.layout import PIECE_BITS, check_range, place
from zorba_ray.noise.philox import philox
from zorba_ray.noise.quantiles import LEVEL_BITS, SIGN_BIT, gaussian_levels

Vector = npt.NDArray[np.float32]


def sample(direction: Direction, block: int, count: int, kind: Kind, offset: int = 0) -> Vector:
    """Values offset … offset + count of the direction's z in a block, float32 [count], unit variance."""
    check_range(kind, offset, count)
    key, (c1, c2, c3) = pack(direction, block)
    call, piece = place(offset + np.arange(count, dtype=np.int64), kind)
    words = np.stack(philox((call, c1, c2, c3), key))  # [4, count]
    word, shift = np.divmod(piece * PIECE_BITS[kind], 32)
    return _value(np.take_along_axis(words, word[None], axis=0)[0] >> shift.astype(np.uint32), kind)


def _value(piece: npt.NDArray[np.uint32], kind: Kind) -> Vector:
    if kind == "rademacher":
        magnitude, sign_bit = np.ones(piece.shape, np.float32), 0
    else:
        magnitude, sign_bit = gaussian_levels()[piece & np.uint32(2**LEVEL_BITS - 1)], SIGN_BIT
    negative = piece >> np.uint32(sign_bit) & np.uint32(1)
    return np.where(negative == 1, -magnitude, magnitude)


def combine_reference(base: Vector, terms: Sequence[Term], block: int, kind: Kind, offset: int = 0) -> Vector:
    """base + Σ_p c_p z_p: products summed in order, the sum added to the base, each operation rounded to float32."""
    if not terms:
        return base.copy()
    z = [sample(direction, block, base.size, kind, offset) for direction, _ in terms]
    total = np.float32(terms[0][1]) * z[0]
    for (_, coefficient), values in zip(terms[1:], z[1:], strict=True):
        total = total + np.float32(coefficient) * values
    return base + total
