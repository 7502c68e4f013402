"""Messages between clients and server, as the bytes that would travel.

A receiver knows the run's config and what it was sent, nothing else. Directions are named by seed and round, so they
are not sent; who has which blocks it cannot derive, so its own row of the allocation and each block's row of
coefficients (the layout) travel, whenever they change. Until it is told otherwise, a client has all blocks, and all
share one row. What a message is and where it ends is the transport's to say, and is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages import PrivateStep, SharedStep

NUMBER, WEIGHT = 4, 8  # bytes of a float32, and of a client's weight
STILL = 2**16 - 1  # in a layout: the block does not move


@dataclass(frozen=True)
class Rows:
    """Which row of coefficients each block has, int [L], −1 where it does not move; and every how many columns a row
    has a number."""

    row_of: NDArray[np.int64]
    strides: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and np.array_equal(self.row_of, other.row_of) and self.strides == other.strides


def granted(blocks: int) -> Rows:
    """What holds before any layout was sent: all blocks share one whole row."""
    return Rows(np.zeros(blocks, dtype=np.int64), (1,))


def rows_of(c: NDArray[np.float32], forks: int = 1) -> Rows:
    """The layout of coefficients [L, J]: blocks that are alike share a row, those of zeros have none. With forks,
    blocks that move along every `forks`-th direction only have a number for these."""
    known: dict[bytes, int] = {}
    moved: list[bool] = np.any(c, axis=1).tolist()
    row_of = [known.setdefault(row.tobytes(), len(known)) if on else -1 for row, on in zip(c, moved, strict=True)]
    strides = [1] * len(known)
    others = np.arange(c.shape[1]) % forks != 0
    if others.any():
        first = [row_of.index(row) for row in range(len(known))]
        strides = [1 if c[block][others].any() else forks for block in first]
    return Rows(np.array(row_of, dtype=np.int64), tuple(strides))


def encode_layout(rows: Rows) -> bytes:
    """A byte for each block (two where there are many rows), then a bit for each row: whether it is strided."""
    wide = len(rows.strides) >= 255
    numbers = np.where(rows.row_of < 0, STILL if wide else 255, rows.row_of).astype("<u2" if wide else "u1")
    return bytes([wide]) + numbers.tobytes() + np.packbits(np.array(rows.strides) > 1).tobytes()


def decode_layout(message: bytes, blocks: int, forks: int = 1) -> Rows:
    wide = bool(message[0])
    end = 1 + blocks * (2 if wide else 1)
    numbers = np.frombuffer(message[1:end], dtype="<u2" if wide else "u1").astype(np.int64)
    row_of = np.where(numbers == (STILL if wide else 255), -1, numbers)
    count = int(row_of.max(initial=-1)) + 1
    strided = np.unpackbits(np.frombuffer(message[end:], dtype=np.uint8), count=count).astype(bool)
    return Rows(row_of, tuple(forks if each else 1 for each in strided))


def encode_active(rows: NDArray[np.bool_]) -> bytes:
    """Rows of a[n, l] [..., L], a bit for each block."""
    return np.packbits(rows, axis=-1).tobytes()


def decode_active(message: bytes, blocks: int) -> NDArray[np.bool_]:
    """[C, L] again."""
    bits = np.frombuffer(message, dtype=np.uint8).reshape(-1, -(-blocks // 8))
    return np.unpackbits(bits, axis=1, count=blocks).astype(np.bool_)


def encode_rows(c: NDArray[np.float32], layout: Rows) -> bytes:
    """Each distinct row once."""
    first = [int(np.argmax(layout.row_of == row)) for row in range(len(layout.strides))]
    rows = [c[block, ::stride] for block, stride in zip(first, layout.strides, strict=True)]
    return b"".join(row.astype("<f4").tobytes() for row in rows)


def decode_rows(message: bytes, layout: Rows, columns: int) -> NDArray[np.float32]:
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


def encode_reports(
    scalars: NDArray[np.float32], rows: NDArray[np.bool_], weights: NDArray[np.float64], clients: NDArray[np.int64]
) -> bytes:
    """What a step was made of: who reported (C numbers; needed where each has noise of its own), their weights, rows of
    a[n, l] [C, L] and scalars [C, J]. From these a receiver makes the step itself."""
    parts = clients.astype("<u4"), weights.astype("<f8"), encode_active(rows), scalars.astype("<f4")
    return b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)


def decode_reports(
    message: bytes, blocks: int, columns: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Scalars, rows, weights and clients again."""
    count = len(message) // report_bytes(blocks, columns)
    ends = np.cumsum([NUMBER * count, WEIGHT * count, -(-blocks // 8) * count])
    clients, weights, rows, scalars = (message[a:b] for a, b in zip([0, *ends], [*ends, None], strict=True))
    return (
        np.frombuffer(scalars, dtype="<f4").reshape(count, columns), decode_active(rows, blocks),
        np.frombuffer(weights, dtype="<f8"), np.frombuffer(clients, dtype="<u4").astype(np.int64),
    )  # fmt: skip


def report_bytes(blocks: int, columns: int) -> int:
    """What one client takes in `encode_reports`."""
    return NUMBER + WEIGHT + -(-blocks // 8) + NUMBER * columns


def encode_private(step: PrivateStep) -> bytes:
    """A step of clients with noise of their own."""
    return encode_reports(step.scalars, step.active, step.weights, step.clients)


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


def encode_shared(step: SharedStep, rows: Rows, pool: int = 0) -> bytes:
    """A shared step of that layout: which directions of the pool it is about, where receivers cannot derive them, and
    its rows."""
    indices = b""
    if step.amplitudes is not None:
        assert step.pool is not None
        indices = encode_indices(step.pool, pool)
    return indices + encode_rows(step.coefficients, rows)


def dense_bytes(sizes: Sequence[int], sent: Sequence[bool]) -> int:
    """Of the numbers of the blocks that are sent whole; a client sends those that it has active."""
    return NUMBER * sum(size for size, on in zip(sizes, sent, strict=True) if on)
