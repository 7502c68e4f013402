"""The Gaussian as a table: 2^14 equally likely levels, the quantiles of N(0, 1) at the middle of each bin.

A Gaussian value takes 16 bits of Philox: bits 0-12 choose a level of the positive half, bit 15 the sign (set means
negative), bits 13-14 are not used. Levels are scaled to unit variance (to 1e-10 after rounding to float32); the largest
is 4.009, the fourth moment 2.9974. Half a table is 32 KiB and stays in a core's first-level cache.

The same bits are needed on every machine, so only correctly rounded operations make the table: + - * / and square root
of IEEE doubles, and the decimal module's logarithm. A digest guards it.
"""

from __future__ import annotations

import hashlib
import math
from decimal import Decimal
from functools import lru_cache

import numpy as np
import numpy.typing as npt

LEVEL_BITS = 13
SIGN_BIT = 15
DIGEST = "04e903d13b4b1121a11628e5ebf465fb"

# Wichura's algorithm AS 241 (PPND16), relative error 1e-16: numerator and denominator, highest power first.
CENTRE = (
    (2.50908_09287_30122_6727e3, 3.34305_75583_58812_8105e4, 6.72657_70927_00870_0853e4, 4.59219_53931_54987_1457e4,
     1.37316_93765_50946_1125e4, 1.97159_09503_06551_4427e3, 1.33141_66789_17843_7745e2, 3.38713_28727_96366_6080e0),
    (5.22649_52788_52854_5610e3, 2.87290_85735_72194_2674e4, 3.93078_95800_09271_0610e4, 2.12137_94301_58659_5867e4,
     5.39419_60214_24751_1077e3, 6.87187_00749_20579_0830e2, 4.23133_30701_60091_1252e1, 1.0),
)  # fmt: skip
TAIL = (
    (7.74545_01427_83414_07640e-4, 2.27238_44989_26918_45833e-2, 2.41780_72517_74506_11770e-1,
     1.27045_82524_52368_38258e0, 3.64784_83247_63204_60504e0, 5.76949_72214_60691_40550e0,
     4.63033_78461_56545_29590e0, 1.42343_71107_49683_57734e0),
    (1.05075_00716_44416_84324e-9, 5.47593_80849_95344_94600e-4, 1.51986_66563_61645_71966e-2,
     1.48103_97642_74800_74590e-1, 6.89767_33498_51000_04550e-1, 1.67638_48301_83803_84940e0,
     2.05319_16266_37758_82187e0, 1.0),
)  # fmt: skip


@lru_cache(maxsize=1)
def gaussian_levels() -> npt.NDArray[np.float32]:
    """The positive half of the levels, rising, float32 [2^13], read-only."""
    half = 1 << LEVEL_BITS
    q = (np.arange(half) + 0.5) / (2 * half)  # p - 1/2, exact
    centre = q <= 0.425
    levels = np.empty(half)
    levels[centre] = q[centre] * _ratio(CENTRE, 0.180625 - q[centre] * q[centre])
    logs = np.array([float(Decimal(0.5 - x).ln()) for x in q[~centre]])
    levels[~centre] = _ratio(TAIL, np.sqrt(-logs) - 1.6)
    levels /= math.sqrt(math.fsum((levels * levels).tolist()) / half)
    table = levels.astype(np.float32)
    digest = hashlib.blake2b(table.astype("<f4").tobytes(), digest_size=16).hexdigest()
    assert digest == DIGEST, f"this machine's arithmetic gives another Gaussian table ({digest}): noise would differ"
    table.flags.writeable = False
    return table


def _ratio(
    polynomials: tuple[tuple[float, ...], tuple[float, ...]], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    numerator, denominator = np.zeros_like(x), np.zeros_like(x)
    for n, d in zip(*polynomials, strict=True):
        numerator, denominator = numerator * x + n, denominator * x + d
    return numerator / denominator
