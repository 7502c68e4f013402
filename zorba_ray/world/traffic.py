"""What a round cost on the wire, from what would really be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.ledger.wire import NUMBER, encode_private, encode_shared
from zorba_ray.messages import CombinedStep, PrivateStep, SharedStep, Step
from zorba_ray.methods import FirstOrder, Traffic, method_of

PLAIN = Traffic()


def traffic_of(config: Config) -> Traffic:
    """The messages of a run's method."""
    method = method_of(config)
    if isinstance(method, FirstOrder) or method.dense:
        return Traffic(dense=True)
    return method.traffic(config) if method.traffic else Traffic(encode=method.download)


def step_bytes(step: Step, reports: int, traffic: Traffic = PLAIN) -> int:
    """Bytes of one step sent to one client: the smaller of the distinct rows of block coefficients and the scalars of
    the `reports` that it was made of, from which a client that knows the allocation computes the coefficients itself.
    """
    if isinstance(step, CombinedStep):
        return sum(step_bytes(part, 0, replace(traffic, scalars=0)) for part in step.parts)
    if traffic.encode:
        return len(traffic.encode(step))
    if isinstance(step, PrivateStep):
        return len(encode_private(step))
    assert isinstance(step, SharedStep)
    rows = len(encode_shared(step, traffic.forks, traffic.pool))
    return min(rows, reports * traffic.scalars * NUMBER) if traffic.scalars else rows


class Wire:
    """Bytes down, with catching up: who is chosen first downloads the steps since it was last here; the step that it
    contributes to comes with its next download."""

    def __init__(self, clients: int, traffic: Traffic = PLAIN, sizes: Sequence[int] = ()):
        self._traffic = traffic
        self._sizes = np.asarray(sizes, dtype=np.int64)  # of the blocks
        self._changed = np.zeros(len(sizes), dtype=np.int64)  # steps after which each block last changed
        self._sent: list[int] = [0]  # bytes of steps 0 … t−1, cumulated
        self._seen = np.zeros(clients, dtype=np.int64)  # steps that each client has
        self._sums = np.zeros((len(sizes) if traffic.pool else 0, traffic.pool))  # accumulated over the pool

    def download(self, clients: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes [C] of what chosen clients download; from now on they have all steps so far."""
        members = np.asarray(clients, dtype=np.int64)
        seen = self._seen[members]
        if self._traffic.dense:
            down = np.array([NUMBER * self._sizes[self._changed > steps].sum() for steps in seen])
        else:
            down = self._sent[-1] - np.asarray(self._sent)[seen]
        if self._traffic.pool:
            rows = np.unique(self._sums, axis=0)
            down = np.minimum(down, NUMBER * self._traffic.pool * int(rows.any(axis=1).sum()))
        self._seen[members] = len(self._sent) - 1
        return np.asarray(down + 2 * self._traffic.drawn, dtype=np.int64)

    def add(self, step: Step, reports: int) -> None:
        """The next step, made of so many reports."""
        if self._traffic.dense:
            self._changed[step.moved()] = step.round + 1
            self._sent.append(0)
        else:
            self._sent.append(self._sent[-1] + step_bytes(step, reports, self._traffic))
        if isinstance(step, SharedStep) and step.pool is not None:
            self._sums[:, step.pool] += step.lr * step.coefficients
