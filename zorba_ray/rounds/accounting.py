"""What a round cost on the wire, from what would really be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.ledger.step import PrivateStep, SharedStep, Step
from zorba_ray.ledger.wire import NUMBER, encode_private, encode_shared
from zorba_ray.methods import METHODS, FirstOrder


@dataclass(frozen=True)
class Protocol:
    """What a method's messages have of their own."""

    dense: bool = False  # changed blocks are downloaded whole, as they are now
    forks: int = 1  # see `ledger.wire.layout_of`
    scalars: int = 0  # numbers of one participant, from all of which a client can compute the step itself; 0: it cannot
    pool: int = 0  # directions in the pool; who missed much downloads one number for each instead
    drawn: int = 0  # indices of the pool that are sent to a participant


def protocol_of(config: Config) -> Protocol:
    """The messages of a run's method."""
    method, name = METHODS[config.method], config.method
    if isinstance(method, FirstOrder) or method.dense:
        return Protocol(dense=True)
    steps, p = config.zo.local_steps, config.zo.directions
    if name == "fedkseed":
        pro = config.pool.draw == "pro"
        return Protocol(pool=config.pool.size, drawn=steps * p if pro else 0)
    if name == "fedspzo":
        m = config.split.forks
        return Protocol(forks=m, scalars=steps * (p if config.split.form == "joint" else p + p // m))
    return Protocol(scalars=steps * p)


def step_bytes(step: Step, participants: int, protocol: Protocol = Protocol()) -> int:
    """Bytes of one step sent to one client: the smaller of the distinct rows of block coefficients and the
    participants' scalars, from which a client that knows the allocation computes the coefficients itself."""
    if isinstance(step, PrivateStep):
        return len(encode_private(step))
    assert isinstance(step, SharedStep)
    rows = len(encode_shared(step, protocol.forks, protocol.pool))
    return min(rows, participants * protocol.scalars * NUMBER) if protocol.scalars else rows


class Wire:
    """Bytes per client, with catching up: a client that takes part downloads what happened since it was last here."""

    def __init__(self, clients: int, protocol: Protocol = Protocol(), sizes: Sequence[int] = ()):
        self._protocol = protocol
        self._sizes = np.asarray(sizes, dtype=np.int64)  # of the blocks
        self._changed = np.zeros(len(sizes), dtype=np.int64)  # steps after which each block last changed
        self._sent: list[int] = [0]  # bytes of steps 0 … t−1, cumulated
        self._seen = np.zeros(clients, dtype=np.int64)  # steps that each client has
        self._sums = np.zeros((len(sizes) if protocol.pool else 0, protocol.pool))  # fedkseed's accumulators

    def round(self, step: Step, participants: Sequence[int]) -> NDArray[np.int64]:
        """Bytes down [C] to the participants of a round, its own step included."""
        members = np.asarray(participants)
        down = self._dense(step, members) if self._protocol.dense else self._steps(step, members)
        self._seen[members] = step.round + 1
        return np.asarray(down + 2 * self._protocol.drawn, dtype=np.int64)

    def _dense(self, step: Step, members: NDArray[np.int64]) -> NDArray[np.int64]:
        self._changed[step.moved()] = step.round + 1
        return np.array([NUMBER * self._sizes[self._changed > seen].sum() for seen in self._seen[members]])

    def _steps(self, step: Step, members: NDArray[np.int64]) -> NDArray[np.int64]:
        self._sent.append(self._sent[-1] + step_bytes(step, len(members), self._protocol))
        down = self._sent[-1] - np.asarray(self._sent)[self._seen[members]]
        if isinstance(step, SharedStep) and step.pool is not None:
            self._sums[:, step.pool] += step.lr * step.coefficients
            down = np.minimum(down, NUMBER * self._protocol.pool * len(np.unique(self._sums, axis=0)))
        return np.asarray(down, dtype=np.int64)
