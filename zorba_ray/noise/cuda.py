"""The CUDA kernel, in Triton: base + Σ c z in one pass over memory, all directions in one launch.

Integers and table look-ups as in the reference. Every float operation is a multiply or an add of its own, rounded to
nearest: the launch switches off fusion to FMA (`enable_fp_fusion=False`), which Triton has on by default.
A program owns whole groups of the layout. Its tensors are [groups, pieces of a word, LANES], one for each of a call's
four words, so that consecutive threads touch consecutive values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl
from torch import Tensor

from zorba_ray.noise import layout, philox, quantiles
from zorba_ray.noise.identity import Kind

TILE = 2048  # values a program owns: 16 Gaussian groups or one Rademacher group
WARPS = 4

LANES = tl.constexpr(layout.LANES)
M0, M1 = tl.constexpr(philox.MULTIPLIERS[0]), tl.constexpr(philox.MULTIPLIERS[1])
W0, W1 = tl.constexpr(philox.WEYL[0]), tl.constexpr(philox.WEYL[1])
ROUNDS = tl.constexpr(philox.ROUNDS)
LEVEL_MASK = tl.constexpr((1 << quantiles.LEVEL_BITS) - 1)
TO_SIGN = tl.constexpr(31 - quantiles.SIGN_BIT)
SIGN = tl.constexpr(1 << 31)
ONE = tl.constexpr(0x3F800000)  # the bits of 1.0
ROW = tl.constexpr(6)  # a term's row of words: key (2), counter words 1 to 3, bits of the coefficient


@triton.jit  # type: ignore[untyped-decorator, misc, unused-ignore]
def _word(row, position):  # type: ignore[no-untyped-def]
    return tl.load(row + position).to(tl.uint32, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator, misc, unused-ignore]
def _philox(a, b, c, d, k0, k1):  # type: ignore[no-untyped-def]
    """Ten rounds on uint32 words of one shape; products and key sums wrap."""
    m0, m1 = tl.full(a.shape, M0, tl.uint32), tl.full(a.shape, M1, tl.uint32)
    for _ in tl.static_range(ROUNDS):
        upper0, lower0 = tl.umulhi(a, m0), a * m0
        upper1, lower1 = tl.umulhi(c, m1), c * m1
        a, b, c, d = upper1 ^ b ^ k0, lower1, upper0 ^ d ^ k1, lower0
        k0 = k0 + W0
        k1 = k1 + W1
    return a, b, c, d


@triton.jit  # type: ignore[untyped-decorator, misc, unused-ignore]
def _values(word, levels, GAUSSIAN: tl.constexpr, PIECES: tl.constexpr):  # type: ignore[no-untyped-def]
    """The z of every piece of a word: uint32 [groups, 1, LANES] → float32 [groups, PIECES, LANES]."""
    shift = (tl.arange(0, PIECES) * (32 // PIECES)).to(tl.uint32)[None, :, None]
    piece = word >> shift
    if GAUSSIAN:
        bits = tl.load(levels + (piece & LEVEL_MASK).to(tl.int32)).to(tl.uint32, bitcast=True)
        bits = bits ^ ((piece << TO_SIGN) & SIGN)
    else:
        bits = ((piece << 31) & SIGN) ^ ONE
    return bits.to(tl.float32, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator, misc, unused-ignore]
def _write(out, base, total, position, count):  # type: ignore[no-untyped-def]
    wanted = (position >= 0) & (position < count)
    value = tl.load(base + position, mask=wanted, other=0.0) + total
    tl.store(out + position, value.to(out.dtype.element_ty), mask=wanted)


@triton.jit(do_not_specialize=["terms", "first_group", "offset", "count"])  # type: ignore[untyped-decorator, misc, unused-ignore]
def _combine(  # type: ignore[no-untyped-def]
    out, base, rows, levels, terms, first_group, offset, count,
    GAUSSIAN: tl.constexpr, PIECES: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    group = first_group + tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)[:, None, None]
    lane = tl.arange(0, LANES)[None, None, :]
    call = (group * LANES + lane).to(tl.uint32)  # [GROUPS, 1, LANES]
    negative_zero = tl.full((GROUPS, PIECES, LANES), SIGN, tl.uint32).to(tl.float32, bitcast=True)
    total0, total1, total2, total3 = negative_zero, negative_zero, negative_zero, negative_zero
    p = 0
    while p < terms:  # (not `for`: Triton's interpreter cannot take a range of a run-time number under NumPy 2.4)
        row = rows + p * ROW
        none = tl.full(call.shape, 0, tl.uint32)
        c1, c2, c3 = none + _word(row, 2), none + _word(row, 3), none + _word(row, 4)
        w0, w1, w2, w3 = _philox(call, c1, c2, c3, _word(row, 0), _word(row, 1))
        c = _word(row, 5).to(tl.float32, bitcast=True)
        total0 = total0 + c * _values(w0, levels, GAUSSIAN, PIECES)
        total1 = total1 + c * _values(w1, levels, GAUSSIAN, PIECES)
        total2 = total2 + c * _values(w2, levels, GAUSSIAN, PIECES)
        total3 = total3 + c * _values(w3, levels, GAUSSIAN, PIECES)
        p += 1
    piece = tl.arange(0, PIECES)[None, :, None]
    position = (group * (4 * PIECES) + piece) * LANES + lane - offset  # of word 0's values in the vector, int64
    _write(out, base, total0, position, count)
    _write(out, base, total1, position + PIECES * LANES, count)
    _write(out, base, total2, position + 2 * PIECES * LANES, count)
    _write(out, base, total3, position + 3 * PIECES * LANES, count)


def combine_cuda(
    out: Tensor,
    base: Tensor,
    names: npt.NDArray[np.uint32],
    coefficients: npt.NDArray[np.float32],
    kind: Kind,
    offset: int,
) -> None:
    """Launch the kernel on the vectors' device: names [P, 5] and coefficients [P] travel as one small tensor."""
    count = base.numel()
    if count == 0:
        return
    rows = np.concatenate([names.view(np.int32), coefficients.view(np.int32)[:, None]], axis=1)
    if not len(rows):
        rows = np.zeros((1, ROW.value), np.int32)  # never read; an empty tensor has no address
    group_values = layout.LANES * layout.values_per_call(kind)
    first_group, last_group = offset // group_values, (offset + count - 1) // group_values
    groups = TILE // group_values
    options: dict[str, Any] = {"num_warps": WARPS, "enable_fp_fusion": False}
    grid = ((last_group - first_group) // groups + 1,)
    named = torch.from_numpy(rows)
    if base.is_cuda:
        named = named.pin_memory().to(base.device, non_blocking=True)  # else the CPU would wait for the stream
    with torch.cuda.device_of(base):  # type: ignore[no-untyped-call]
        _combine[grid](
            out, base, named, _levels(base.device),
            len(names), first_group, offset, count,
            GAUSSIAN=kind == "gaussian", PIECES=32 // layout.PIECE_BITS[kind], GROUPS=groups, **options,
        )  # fmt: skip


@lru_cache(maxsize=64)
def _levels(device: torch.device) -> Tensor:
    """The Gaussian table's bits on a device, int32 [2^13]."""
    return torch.from_numpy(quantiles.gaussian_levels().view(np.int32).copy()).to(device)
