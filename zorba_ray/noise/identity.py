"""Who a random number belongs to: the names of directions, and how a name becomes a Philox key and counter.

Every number is named by (seed, round, local step, direction, client, block, offset). The seed is the 64-bit key; the
rest fills the 128-bit counter without overlap, so two different names never share a counter, hence never a number:

    bits   0-31   call       which Philox call of the block's vector (see `layout`)
    bits  32-47   block      16 bits
    bits  48-63   direction  16 bits
    bits  64-87   client     24 bits: 0 = shared by all clients, n + 1 = client n's own
    bits  88-91   domain      4 bits: `Domain`, 0 for directions
    bits  92-103  step       12 bits: local step within a round
    bits 104-127  round      24 bits

A field that does not fit is an error, never a wrap-around.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zorba_ray.config.errors import ConfigError

Kind = Literal["gaussian", "rademacher"]


class Domain(IntEnum):
    """What a stream of random numbers is for; streams of different domains never meet."""

    DIRECTION = 0
    PARTITION = 1
    BATCH = 2
    PARTICIPANTS = 3
    BUDGETS = 4
    ALLOCATION = 5
    DATA = 6
    LANGUAGE = 7
    INIT = 8
    FAULTS = 9
    POOL = 10
    PRIVACY = 11
    WORLD = 12
    EVALUATION = 13


@dataclass(frozen=True)
class Direction:
    """The name of one direction z; the numbers are made again from it wherever they are needed."""

    seed: int
    round: int
    direction: int
    step: int = 0
    client: int = 0  # 0 = shared by all, n + 1 = client n's own


Term = tuple[Direction, float]  # a direction and its coefficient

Whole: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Terms:
    """Many terms of one seed by columns, each [T]: what `Term`s say one by one, and what iterating gives."""

    seed: int
    round: Whole
    direction: Whole
    step: Whole
    client: Whole
    coefficients: npt.NDArray[np.float32]

    @classmethod
    def none(cls, seed: int) -> Terms:
        nothing = np.zeros(0, np.int64)
        return cls(seed, nothing, nothing, nothing, nothing, np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.coefficients)

    def __iter__(self) -> Iterator[Term]:
        names = zip(*(column.tolist() for column in (self.round, self.direction, self.step, self.client)), strict=True)
        for name, coefficient in zip(names, self.coefficients.tolist(), strict=True):
            yield Direction(self.seed, *name), coefficient


SEED_BITS = 64
CALL_BITS = 32
# The counter's other fields, lowest bits first.
WIDTHS = {"block": 16, "direction": 16, "client": 24, "domain": 4, "step": 12, "round": 24}
assert CALL_BITS + sum(WIDTHS.values()) == 128


def checked(name: str, value: int, bits: int) -> int:
    """`value` as a plain int, refused when it is not in [0, 2^bits)."""
    number = operator.index(value)
    if not 0 <= number < 1 << bits:
        raise ConfigError(
            f"noise: {name} = {number} does not fit its {bits} bits; use a {name} from 0 to {(1 << bits) - 1}"
        )
    return number


@lru_cache(maxsize=4096)
def pack(direction: Direction, block: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """The key's two 32-bit words and the counter's words 1 to 3 (word 0 is the call)."""
    seed = checked("seed", direction.seed, SEED_BITS)
    fields = {
        "block": block,
        "direction": direction.direction,
        "client": direction.client,
        "domain": Domain.DIRECTION,
        "step": direction.step,
        "round": direction.round,
    }
    packed, position = 0, 0
    for name, bits in WIDTHS.items():
        packed |= checked(name, fields[name], bits) << position
        position += bits
    mask = 0xFFFFFFFF
    return (seed & mask, seed >> 32), (packed & mask, packed >> 32 & mask, packed >> 64)


def chained(parts: Sequence[Terms]) -> Terms:
    """Terms of one seed, at least some, one after the other."""
    round, direction, step, client = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("round", "direction", "step", "client")
    )
    coefficients = np.concatenate([part.coefficients for part in parts])
    return Terms(parts[0].seed, round, direction, step, client, coefficients)


Packed: TypeAlias = tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]


def pack_terms(terms: Sequence[Term] | Terms, block: int) -> Packed:
    """What a kernel needs to know of its P terms: uint32 [P, 5] (key words, counter words 1 to 3) and float32 c [P]."""
    if isinstance(terms, Terms):
        return pack_columns(terms, block)
    names = np.empty((len(terms), 5), np.uint32)
    for row, (direction, _) in enumerate(terms):
        key, counter = pack(direction, block)
        names[row] = (*key, *counter)
    return names, np.array([c for _, c in terms], np.float32)


def pack_columns(terms: Terms, block: int) -> Packed:
    """`pack_terms`, all terms at once: the same bits as one after the other."""
    count, key = len(terms), checked("seed", terms.seed, SEED_BITS)
    fields = {
        "block": np.full(count, block), "direction": terms.direction, "client": terms.client,
        "domain": np.full(count, int(Domain.DIRECTION)), "step": terms.step, "round": terms.round,
    }  # fmt: skip
    low, high, position = np.zeros(count, np.uint64), np.zeros(count, np.uint64), 0
    for name, bits in WIDTHS.items():
        values = fields[name]
        for value in values[(values < 0) | (values >> bits > 0)][:1]:
            checked(name, value, bits)
        unsigned = values.astype(np.uint64)
        if position < 64:
            low |= unsigned << np.uint64(position)
        if position + bits > 64:
            high |= unsigned >> np.uint64(64 - position) if position < 64 else unsigned << np.uint64(position - 64)
        position += bits
    names = np.empty((count, 5), np.uint32)
    names[:, 0], names[:, 1] = key & 0xFFFFFFFF, key >> 32
    names[:, 2], names[:, 3], names[:, 4] = low & np.uint64(0xFFFFFFFF), low >> np.uint64(32), high
    return names, terms.coefficients
