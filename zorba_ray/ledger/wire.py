"""Messages between clients and server, as the bytes that would travel.

What both sides can derive is not sent: directions are named by seed and round, and which blocks share a row of
coefficients follows from who took part and from the allocation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages import PrivateStep, SharedStep

NUMBER = 4  # bytes of a float32


@dataclass(frozen=True)
class Layout:
    """Which row each block has, int [L], −1 where it does not move; and every how many columns a row has a number."""

    row_of: NDArray[np.int64]
    strides: tuple[int, ...]


def layout_from(parts: NDArray[np.int8], forks: int = 1) -> Layout:
    """As a receiver knows it: `parts` [C, L] as in `methods.average.block_coefficients`. With forks, blocks that are in
    the first part (1) of all their clients move along every `forks`-th direction only."""

    def stride(column: NDArray[np.int8]) -> int:
        return forks if forks > 1 and int(column.max()) == 1 else 1

    return _layout(list(parts.T), [stride(column) for column in parts.T])


def layout_of(c: NDArray[np.float32], forks: int = 1) -> Layout:
    """As the coefficients [L, J] show it."""
    others = np.arange(c.shape[1]) % forks != 0
    strides = [forks if others.any() and not row[others].any() else 1 for row in c]
    return _layout(list(c), strides)


def _layout(columns: Sequence[NDArray[Any]], strides: Sequence[int]) -> Layout:
    """Blocks that are alike share a row; those of zeros have none."""
    known: dict[bytes, int] = {}
    row_of = [known.setdefault(column.tobytes(), len(known)) if column.any() else -1 for column in columns]
    first = [row_of.index(row) for row in range(len(known))]
    return Layout(np.array(row_of, dtype=np.int64), tuple(strides[block] for block in first))


def encode_rows(c: NDArray[np.float32], layout: Layout) -> bytes:
    """Each distinct row once."""
    first = [int(np.argmax(layout.row_of == row)) for row in range(len(layout.strides))]
    rows = [c[block, ::stride] for block, stride in zip(first, layout.strides, strict=True)]
    return b"".join(row.astype("<f4").tobytes() for row in rows)


def decode_rows(message: bytes, layout: Layout, columns: int) -> NDArray[np.float32]:
    """c [L, J] again."""
    numbers = np.frombuffer(message, dtype="<f4")
    c = np.zeros((len(layout.row_of), columns), dtype=np.float32)
    start = 0
    for row, stride in enumerate(layout.strides):
        count = -(-columns // stride)
        c[np.ix_(layout.row_of == row, np.arange(0, columns, stride))] = numbers[start : start + count]
        start += count
    assert start == len(numbers), f"{len(numbers)} numbers where {start} were expected"
    return c


def encode_private(step: PrivateStep) -> bytes:
    """Who took part, 4 bytes each, and their scalars; weights and the allocation are known to all."""
    return step.clients.astype("<u4").tobytes() + step.scalars.astype("<f4").tobytes()


def decode_private(message: bytes, columns: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Clients [C] and scalars [C, J] again."""
    count = len(message) // (4 + NUMBER * columns)
    clients = np.frombuffer(message[: 4 * count], dtype="<u4").astype(np.int64)
    return clients, np.frombuffer(message[4 * count :], dtype="<f4").reshape(count, columns)


def encode_indices(index: NDArray[np.int32], size: int) -> bytes:
    """Ascending indices below `size` of a pool: how many (4 bytes), then 2 bytes each, or one bit for each that could
    be, whichever is less."""
    head = np.array(len(index), dtype="<u4").tobytes()
    if 2 * len(index) <= -(-size // 8):
        return head + index.astype("<u2").tobytes()
    bits = np.zeros(size, dtype=np.bool_)
    bits[index] = True
    return head + np.packbits(bits).tobytes()


def decode_indices(message: bytes, size: int) -> NDArray[np.int32]:
    count = int(np.frombuffer(message[:4], dtype="<u4")[0])
    if 2 * count <= -(-size // 8):
        return np.frombuffer(message[4 : 4 + 2 * count], dtype="<u2").astype(np.int32)
    bits = np.frombuffer(message[4 : 4 + -(-size // 8)], dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(bits, count=size)).astype(np.int32)


def encode_shared(step: SharedStep, forks: int = 1, pool: int = 0) -> bytes:
    """A shared step: which directions of the pool it is about, where receivers cannot derive them, and its rows."""
    indices = b""
    if step.amplitudes is not None:
        assert step.pool is not None
        indices = encode_indices(step.pool, pool)
    return indices + encode_rows(step.coefficients, layout_of(step.coefficients, forks))


def dense_bytes(sizes: Sequence[int], sent: Sequence[bool]) -> int:
    """Of the numbers of the blocks that are sent whole; which ones those are, both sides know from the allocation."""
    return NUMBER * sum(size for size, on in zip(sizes, sent, strict=True) if on)
