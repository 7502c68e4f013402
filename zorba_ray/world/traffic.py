"""What a round cost on the wire, from what would really be sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.ledger.wire import (
    NUMBER,
    WEIGHT,
    Rows,
    encode_layout,
    encode_private,
    encode_shared,
    granted,
    report_bytes,
    rows_of,
)
from zorba_ray.messages import CombinedStep, PrivateStep, SharedStep, Step
from zorba_ray.methods import FirstOrder, Traffic, method_of

PLAIN = Traffic()
ROUND = 4  # bytes of a round's number


def traffic_of(config: Config) -> Traffic:
    """The messages of a run's method."""
    method = method_of(config)
    if isinstance(method, FirstOrder) or method.dense:
        return Traffic(dense=True)
    return method.traffic(config) if method.traffic else Traffic(encode=method.download)


def step_bytes(step: Step, reports: int, traffic: Traffic, before: Rows) -> tuple[int, Rows]:
    """Bytes of one step sent to one client that knows the layout `before`, and the layout that it knows then.

    A shared step goes as the distinct rows of its coefficients, behind their layout where that is another, or as the
    `reports` that it was made of, whichever is less.
    """
    blocks = len(before.row_of)
    if isinstance(step, CombinedStep):
        extra = ROUND + WEIGHT * blocks  # the round that named the directions, and the part's share in each block
        return sum(extra + part_bytes(part, traffic) for part in step.parts), before
    if traffic.encode:
        return len(traffic.encode(step)), before
    if isinstance(step, PrivateStep):
        return len(encode_private(step)), before
    assert isinstance(step, SharedStep)
    if not step.moved().any():
        return 0, before
    rows = rows_of(step.coefficients, traffic.forks)
    count = len(encode_shared(step, rows, traffic.pool)) + (len(encode_layout(rows)) if rows != before else 0)
    relayed = reports * report_bytes(blocks, traffic.scalars)
    return (relayed, before) if traffic.scalars and relayed < count else (count, rows)


def part_bytes(part: SharedStep | PrivateStep, traffic: Traffic) -> int:
    """Of a part of a combined step, which says its own layout."""
    if isinstance(part, PrivateStep):
        return len(encode_private(part))
    rows = rows_of(part.coefficients, traffic.forks)
    return len(encode_layout(rows)) + len(encode_shared(part, rows, traffic.pool))


class Wire:
    """Bytes down, with catching up: who is chosen first downloads its row of the allocation, if that changed, and the
    steps since it was last here; the step that it contributes to comes with its next download."""

    def __init__(self, clients: int, traffic: Traffic = PLAIN, sizes: Sequence[int] = ()):
        self._traffic = traffic
        self._sizes = np.asarray(sizes, dtype=np.int64)  # of the blocks
        self._changed = np.zeros(len(sizes), dtype=np.int64)  # steps after which each block last changed
        self._steps, self._sent = 0, 0  # so far, and their bytes
        self._seen = np.zeros(clients, dtype=np.int64)  # steps that each client has
        self._had = np.zeros(clients, dtype=np.int64)  # and their bytes
        self._rows = np.ones((clients, len(sizes)), dtype=np.bool_)  # the row of a[n, l] that each client was told
        self._layout = granted(len(sizes))  # that who has all steps knows
        self._sums = np.zeros((len(sizes) if traffic.pool else 0, traffic.pool))  # accumulated over the pool

    def download(self, clients: Sequence[int] | NDArray[np.int64], active: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Bytes [C] of what chosen clients download, with a [N, L] of this round; from now on they have all steps so
        far."""
        members = np.asarray(clients, dtype=np.int64)
        seen, mask = self._seen[members], -(-len(self._sizes) // 8)
        if self._traffic.dense:  # which blocks changed, and those
            moments, which = np.unique(seen, return_inverse=True)
            down = np.array([NUMBER * self._sizes[self._changed > steps].sum() for steps in moments], dtype=np.int64)
            down = (down + np.where(down > 0, mask, 0))[which]
        else:
            down = self._sent - self._had[members]
        if self._traffic.pool:
            down = np.minimum(down, self._accumulated())
        told = mask * (active[members] != self._rows[members]).any(axis=1)
        self._rows[members] = active[members]
        self._seen[members], self._had[members] = self._steps, self._sent
        return np.asarray(down + told + 2 * self._traffic.drawn, dtype=np.int64)

    def _accumulated(self) -> int:
        """Bytes of all that the pool's directions came to, with the layouts that whoever skips the steps lacks."""
        known = granted(len(self._sizes))
        rows = rows_of(self._sums.astype(np.float32))
        layouts = [len(encode_layout(each)) for each in (rows, self._layout) if each != known]
        return NUMBER * self._traffic.pool * len(rows.strides) + sum(layouts)

    def add(self, step: Step, reports: int) -> None:
        """The next step, made of so many reports."""
        self._steps += 1
        if self._traffic.dense:
            self._changed[step.moved()] = step.round + 1
        else:
            count, self._layout = step_bytes(step, reports, self._traffic, self._layout)
            self._sent += count
        if isinstance(step, SharedStep) and step.pool is not None:
            self._sums[:, step.pool] += step.lr * step.coefficients
