"""Frozen matrices in eight or four bits: a level from a fixed table, times the largest magnitude of its neighbours.

int8: 255 equal levels −1 … 1, one magnitude a row of the matrix as it is stored. nf4: the 16 levels of NormalFloat4
(quantiles of a normal distribution, as QLoRA published them), one magnitude for every 64 values. Plain arithmetic, so
the bits are the same on every device; both tables hold ±1, so quantising a dequantised matrix gives the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from zorba_ray.model.hollow import lacks_numbers, with_numbers

Bits = Literal["int8", "nf4"]
KINDS: tuple[Bits, ...] = ("int8", "nf4")

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
NEIGHBOURS = 64  # values of nf4 that share a magnitude
SLICE = 1 << 18  # values handled at once, so that what is needed besides the result stays small
LEAST = 2.0**-100  # smaller magnitudes count as zero: their products with a level would lose bits


@dataclass(frozen=True, eq=False)
class Quantised:
    """A matrix in few bits: codes int8 [rows, cols], or uint8 [⌈n/64⌉·32] with two values a byte; magnitudes."""

    kind: Bits
    shape: tuple[int, ...]
    codes: Tensor
    magnitude: Tensor  # [rows] or [⌈n/64⌉]
    levels: Tensor  # the table, shared by all of a kind: [255], or [256, 2] for the two values of a byte

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.codes, self.magnitude))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.codes, self.magnitude, self.levels

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The dequantised matrix, of its own."""
        return dequantise(self, torch.empty(self.shape, dtype=dtype, device=self.codes.device))

    def to(self, device: torch.device) -> Quantised:
        return Quantised(self.kind, self.shape, self.codes.to(device), self.magnitude.to(device),
                         _table(self.kind, device))  # fmt: skip


def few_bits(name: str) -> Bits | None:
    """The kind that a value of model.frozen names, if it names one."""
    return next((kind for kind in KINDS if kind == name), None)


def without_numbers(kind: Bits, shape: tuple[int, ...]) -> Quantised:
    """Of the meta device: what a matrix in few bits takes, and nothing in it."""
    weight = torch.empty(shape, device="meta")
    return Quantised(kind, shape, *_room(kind, weight), _table(kind, weight.device))


def quantise(weight: Tensor, kind: Bits) -> Quantised:
    """Nearest levels of a float32 matrix [rows, cols]."""
    assert weight.dim() == 2 and weight.dtype == torch.float32, f"{weight.dtype} {tuple(weight.shape)}"
    if lacks_numbers(weight):
        codes, magnitude = _room(kind, weight)
    else:
        codes, magnitude = (_to_int8 if kind == "int8" else _to_nf4)(weight)
    return Quantised(kind, tuple(weight.shape), codes, magnitude, _table(kind, weight.device))


def dequantise(few: Quantised, out: Tensor) -> Tensor:
    """Write level · magnitude into `out`, contiguous and of the matrix's shape; rounded once if it has few bits."""
    if few.kind == "int8":
        rows, cols = few.shape
        step = max(1, SLICE // cols)
        for start in range(0, rows, step):
            part = few.codes[start : start + step]
            levels = few.levels.index_select(0, part.reshape(-1).to(torch.int32).add_(127)).view(part.shape)
            out[start : start + step] = levels.mul_(few.magnitude[start : start + step, None])
        return out
    flat = out.view(-1)
    for start in range(0, flat.numel(), SLICE):
        size = min(SLICE, flat.numel() - start)
        groups = slice(start // NEIGHBOURS, -(-(start + size) // NEIGHBOURS))
        codes = few.codes[groups.start * NEIGHBOURS // 2 : groups.stop * NEIGHBOURS // 2]
        values = few.levels.index_select(0, codes.to(torch.int32)).view(-1, NEIGHBOURS)
        values.mul_(few.magnitude[groups, None])
        flat[start : start + size] = values.view(-1)[:size]
    return out


def _room(kind: Bits, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and magnitudes of a matrix without numbers."""
    if kind == "int8":
        return weight.new_empty(weight.shape, dtype=torch.int8), weight.new_empty(len(weight))
    count = -(-weight.numel() // NEIGHBOURS)
    return weight.new_empty(count * NEIGHBOURS // 2, dtype=torch.uint8), weight.new_empty(count)


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = _magnitude(weight)
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    step = max(1, SLICE // weight.shape[1])
    for start in range(0, weight.shape[0], step):
        shares = _shares(weight[start : start + step], magnitude[start : start + step])
        codes[start : start + step] = shares.mul_(127.0).round_()
    return codes, magnitude


def _to_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    flat = weight.reshape(-1)
    count = -(-flat.numel() // NEIGHBOURS)
    codes = torch.empty(count * NEIGHBOURS // 2, dtype=torch.uint8, device=weight.device)
    magnitude = torch.empty(count, dtype=torch.float32, device=weight.device)
    levels = torch.tensor(NF4, dtype=torch.float32)
    middles = ((levels[1:] + levels[:-1]) / 2).to(weight.device)
    for start in range(0, flat.numel(), SLICE):
        part = flat[start : start + SLICE]
        short = -part.numel() % NEIGHBOURS
        values = torch.nn.functional.pad(part, (0, short)).view(-1, NEIGHBOURS)
        groups = slice(start // NEIGHBOURS, start // NEIGHBOURS + len(values))
        magnitude[groups] = _magnitude(values)
        nearest = torch.bucketize(_shares(values, magnitude[groups]), middles, out_int32=True).view(-1, 2)
        codes[groups.start * NEIGHBOURS // 2 : groups.stop * NEIGHBOURS // 2] = (nearest[:, 0] << 4) | nearest[:, 1]
    return codes, magnitude


def _magnitude(values: Tensor) -> Tensor:
    """Largest magnitude of each row."""
    most = values.abs().amax(dim=1)
    return torch.where(most >= LEAST, most, torch.zeros_like(most))


def _shares(values: Tensor, magnitude: Tensor) -> Tensor:
    """values / magnitude, from −1 to 1; 0 where the magnitude is 0."""
    whole = magnitude[:, None]
    return torch.where(whole > 0, values / whole, torch.zeros_like(values))


@cache
def _table(kind: Bits, device: torch.device) -> Tensor:
    """Made on the CPU, whose division by a number is exact."""
    with with_numbers():
        if kind == "int8":
            return (torch.arange(-127, 128, dtype=torch.float32) / 127).to(device)
        levels = torch.tensor(NF4, dtype=torch.float32)
        byte = torch.arange(256)
        return torch.stack([levels[byte >> 4], levels[byte & 15]], dim=1).to(device)
