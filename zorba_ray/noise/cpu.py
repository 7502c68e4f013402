"""The CPU kernel, in Numba: base + Σ c z, once or many times in a row, in one pass over memory, a window of 4,096
values at a time.

A window's sum lives in first-level cache: for each direction the Philox words of the window are made call by call, then
turned into values c z and added. The loops are shaped so that LLVM makes vector code of them (constant trip counts,
unit strides, no index that could be negative). Words are kept in uint64 whose upper halves are garbage until the end: a
round is then two widening multiplications, two shifts and two three-way xors.

No fast-math, hence no contraction to FMA: every product and every sum is rounded to float32 on its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeAlias, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from zorba_ray.noise.identity import Kind
from zorba_ray.noise.layout import LANES
from zorba_ray.noise.philox import MULTIPLIERS, ROUNDS, round_keys
from zorba_ray.noise.quantiles import LEVEL_BITS, gaussian_levels

Format = Literal["float32", "bfloat16", "float16"]
FORMATS: tuple[Format, ...] = ("float32", "bfloat16", "float16")
Floats: TypeAlias = npt.NDArray[np.float32]
Halves: TypeAlias = npt.NDArray[np.uint16]
Bits: TypeAlias = npt.NDArray[np.uint32]
Wide: TypeAlias = npt.NDArray[np.uint64]
Ends: TypeAlias = npt.NDArray[np.int64]

WINDOW = 4096  # values; whole groups of either kind
GAUSSIAN_CALLS, RADEMACHER_CALLS = WINDOW // 8, WINDOW // 128
SMALLEST_SHARE = 16 * WINDOW  # values, each counted once a move; with fewer, a thread costs more than it brings

_M0, _M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_LEVEL, _SIGN, _MAGNITUDE = np.uint32(2**LEVEL_BITS - 1), np.uint32(1 << 31), np.uint32((1 << 31) - 1)
_NEGATIVE_ZERO = np.float32(-0.0)

F = TypeVar("F", bound=Callable[..., None])


def _inner(function: F) -> F:
    """A part of the kernel."""
    njit: Any = numba.njit
    return njit(error_model="numpy")(function)  # type: ignore[no-any-return]


@_inner
def _words(words: Bits, calls: int, first: int, name: Wide, keys: Wide) -> None:
    """words[:, :calls] = Philox of calls first, first + 1, …"""
    for j in range(calls):
        a, b, c, d = np.uint64(first + j), name[0], name[1], name[2]
        for r in range(ROUNDS):
            p, q = (a & _LOW) * _M0, (c & _LOW) * _M1
            a, b, c, d = (q >> _32) ^ b ^ keys[r, 0], q, (p >> _32) ^ d ^ keys[r, 1], p
        words[0, j], words[1, j], words[2, j], words[3, j] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)


@_inner
def _gaussian(product: Floats, words: Bits, levels: Bits, coefficient: np.float32) -> None:
    """product = c z. A word holds two pieces; a value is a level's bits with the piece's upper bit as its sign."""
    for w in range(4):
        for group in range(GAUSSIAN_CALLS // LANES):
            call, value = group * LANES, (group * 8 + 2 * w) * LANES
            for lane in range(LANES):
                word = words[w, call + lane]
                upper = np.uint32(word >> np.uint32(16))
                z0 = np.uint32(levels[np.int64(word & _LEVEL)] ^ np.uint32(np.uint32(word << np.uint32(16)) & _SIGN))
                z1 = np.uint32(levels[np.int64(upper & _LEVEL)] ^ np.uint32(word & _SIGN))
                product[value + lane] = coefficient * np.uint32(z0).view(np.float32)
                product[value + LANES + lane] = coefficient * np.uint32(z1).view(np.float32)


@_inner
def _rademacher(product: Floats, words: Bits, coefficient: np.float32) -> None:
    """product = c z: c with its sign flipped where the value's bit is set. (Four pieces a loop: five times as fast.)"""
    bits = np.float32(coefficient).view(np.uint32)
    for group in range(RADEMACHER_CALLS // LANES):
        for w in range(4):
            for piece in range(0, 32, 4):
                value = (group * 128 + w * 32 + piece) * LANES
                for lane in range(LANES):
                    x = np.uint32(words[w, group * LANES + lane] >> np.uint32(piece))
                    c0 = np.uint32(bits ^ np.uint32(np.uint32(x << np.uint32(31)) & _SIGN))
                    c1 = np.uint32(bits ^ np.uint32(np.uint32(x << np.uint32(30)) & _SIGN))
                    c2 = np.uint32(bits ^ np.uint32(np.uint32(x << np.uint32(29)) & _SIGN))
                    c3 = np.uint32(bits ^ np.uint32(np.uint32(x << np.uint32(28)) & _SIGN))
                    product[value + lane] = np.uint32(c0).view(np.float32)
                    product[value + LANES + lane] = np.uint32(c1).view(np.float32)
                    product[value + 2 * LANES + lane] = np.uint32(c2).view(np.float32)
                    product[value + 3 * LANES + lane] = np.uint32(c3).view(np.float32)


@_inner
def _add(total: Floats, addend: Floats) -> None:
    for i in range(total.size):
        total[i] += addend[i]


@_inner
def _sum(out: Floats, a: Floats, b: Floats) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i]


@_inner
def _copy(out: Floats, total: Floats) -> None:
    for i in range(total.size):
        out[i] = total[i]


@_inner
def _round_bfloat16(out: Halves, total: Floats) -> None:
    """Nearest, ties to even; every NaN becomes 0x7fc0, as in torch."""
    for i in range(total.size):
        x = np.float32(total[i]).view(np.uint32)
        odd = np.uint32(np.uint32(x >> np.uint32(16)) & np.uint32(1))
        rounded = np.uint32(np.uint32(x + np.uint32(np.uint32(0x7FFF) + odd)) >> np.uint32(16))
        out[i] = np.uint16(0x7FC0 if np.uint32(x & _MAGNITUDE) > np.uint32(0x7F800000) else rounded)


@_inner
def _round_float16(out: Halves, total: Floats) -> None:
    """Nearest, ties to even. Below 2^-14 adding 1/2 rounds to multiples of 2^-24, float16's subnormals."""
    for i in range(total.size):
        x = np.float32(total[i]).view(np.uint32)
        size = np.uint32(x & _MAGNITUDE)
        odd = np.uint32(np.uint32(size >> np.uint32(13)) & np.uint32(1))
        normal = np.uint32(np.uint32(size + np.uint32(np.uint32(0xFFF) + odd) - np.uint32(112 << 23)) >> np.uint32(13))
        shifted = np.float32(np.uint32(size).view(np.float32) + np.float32(0.5))
        small = np.uint32(shifted.view(np.uint32) - np.uint32(0x3F000000))
        rounded = small if size < np.uint32(113 << 23) else normal
        if size >= np.uint32(0x47800000):  # 2^16 and more, infinity, NaN
            rounded = np.uint32(0x7E00) if size > np.uint32(0x7F800000) else np.uint32(0x7C00)
        out[i] = np.uint16(np.uint32(rounded | np.uint32(np.uint32(x & _SIGN) >> np.uint32(16))))


def _combine(
    out: Floats,
    half: Halves,
    form: int,
    base: Floats,
    offset: int,
    names: Wide,
    keys: Wide,
    coefficients: Floats,
    ends: Ends,
    levels: Bits,
    gaussian: bool,
) -> None:
    """out (form 0) or half (form 1 bfloat16, 2 float16, as bits) = base + Σ c z, from value `offset` of the block, for
    the terms up to the first of `ends`; then that + Σ c z for those up to the second, and so on."""
    total, product, moved = np.empty(WINDOW, np.float32), np.empty(WINDOW, np.float32), np.empty(WINDOW, np.float32)
    words = np.empty((4, GAUSSIAN_CALLS), np.uint32)
    done = 0
    while done < base.size:
        window = (offset + done) // WINDOW
        low = offset + done - window * WINDOW
        count = min(WINDOW - low, base.size - done)
        source, wanted = base[done : done + count], moved[low : low + count]
        begin = 0
        for end in ends:
            if begin == end:
                total[:] = _NEGATIVE_ZERO  # the one number that leaves every base as it is, zeros included
            for p in range(begin, end):
                target = total if p == begin else product
                if gaussian:
                    _words(words, GAUSSIAN_CALLS, window * GAUSSIAN_CALLS, names[p], keys[p])
                    _gaussian(target, words, levels, coefficients[p])
                else:
                    _words(words, RADEMACHER_CALLS, window * RADEMACHER_CALLS, names[p], keys[p])
                    _rademacher(target, words, coefficients[p])
                if p > begin:
                    _add(total, product)
            _sum(wanted, source, total[low : low + count])
            source = wanted
            begin = end
        if form == 0:
            _copy(out[done : done + count], wanted)
        elif form == 1:
            _round_bfloat16(half[done : done + count], wanted)
        else:
            _round_float16(half[done : done + count], wanted)
        done += count


def _compile(function: F, signature: str) -> F:
    """Compiled now, cached on disk where Numba finds a writable place (package folder, NUMBA_CACHE_DIR, user cache)."""
    njit: Any = numba.njit
    try:
        return njit(signature, nogil=True, error_model="numpy", cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # nowhere to write a cache
        return njit(signature, nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]


_kernel = _compile(
    _combine, "void(f4[::1], u2[::1], i8, f4[::1], i8, u8[:,::1], u8[:,:,::1], f4[::1], i8[::1], u4[::1], b1)"
)


def combine_cpu(
    out: Floats | Halves,
    form: Format,
    base: Floats,
    terms: Bits,
    coefficients: Floats,
    kind: Kind,
    offset: int,
    threads: int,
    counts: Sequence[int] = (),
) -> None:
    """Run the kernel over `base` [n], its windows dealt to at most `threads` threads in contiguous shares.

    `terms` is `pack_terms`' [P, 5]; `out` is float32, or the uint16 bits of bfloat16 or float16. `counts`: of moves in
    turn, how many of the terms each has; empty: all are one move. Threads never share a value, so their number changes
    nothing.
    """
    ends = np.cumsum(counts or [len(coefficients)], dtype=np.int64)
    keys = round_keys(terms[:, :2])
    counters = np.ascontiguousarray(terms[:, 2:], np.uint64)
    levels = _level_bits()
    full = out.view(np.float32) if form == "float32" else np.empty(0, np.float32)
    half = np.empty(0, np.uint16) if form == "float32" else out.view(np.uint16)

    def share(start: int, stop: int) -> None:
        _kernel(
            full[start:stop], half[start:stop], FORMATS.index(form), base[start:stop], offset + start,
            counters, keys, coefficients, ends, levels, kind == "gaussian",
        )  # fmt: skip

    bounds = _shares(offset, base.size, threads, len(ends))
    if len(bounds) == 2:
        share(0, base.size)
        return
    waiting = [_pool(os.getpid(), threads - 1).submit(share, *span) for span in pairwise(bounds[1:])]
    share(bounds[0], bounds[1])
    for result in waiting:
        result.result()


@lru_cache(maxsize=1)
def _level_bits() -> Bits:
    return gaussian_levels().view(np.uint32).copy()  # the kernel's signature wants a writable array


def _shares(offset: int, size: int, threads: int, moves: int = 1) -> list[int]:
    """The bounds of at most `threads` nearly equal shares of [0, size), cut where windows begin."""
    count = max(1, min(threads, size * moves // SMALLEST_SHARE, size // WINDOW))
    cuts = [(offset + size * k // count) // WINDOW * WINDOW - offset for k in range(1, count)]
    return [0, *cuts, size]


@lru_cache(maxsize=8)
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """Helper threads of this process; keyed by its id, because threads do not survive a fork."""
    return ThreadPoolExecutor(workers, thread_name_prefix=f"noise-{process}")
