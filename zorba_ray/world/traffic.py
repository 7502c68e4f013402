"""What a round cost on the wire, from what would really be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.ledger.wire import NUMBER, encode_private, encode_shared
from zorba_ray.messages import CombinedStep, PrivateStep, SharedStep, Step
from zorba_ray.methods import FirstOrder, method_of
from zorba_ray.methods.table import BUILT_IN


@dataclass(frozen=True)
class Protocol:
    """What a method's messages have of their own."""

    dense: bool = False  # changed blocks are downloaded whole, as they are now
    forks: int = 1  # see `ledger.wire.layout_of`
    scalars: int = 0  # numbers of one participant, from all of which a client can compute the step itself; 0: it cannot
    pool: int = 0  # directions in the pool; who missed much downloads one number for each instead
    drawn: int = 0  # indices of the pool that are sent to a participant
    encode: Callable[[Step], bytes] | None = None  # a method's own message for a step


def protocol_of(config: Config) -> Protocol:
    """The messages of a run's method."""
    method, name = method_of(config), config.method
    if isinstance(method, FirstOrder) or method.dense:
        return Protocol(dense=True)
    if name not in BUILT_IN:
        return Protocol(encode=method.download)
    steps, p = config.zo.local_steps, config.zo.directions
    if name == "fedkseed":
        pro = config.pool.draw == "pro"
        return Protocol(pool=config.pool.size, drawn=steps * p if pro else 0)
    if name == "fedspzo":
        m = config.split.forks
        return Protocol(forks=m, scalars=steps * (p if config.split.form == "joint" else p + p // m))
    if config.privacy.noise > 0:
        return Protocol()  # nobody may see a client's own scalars
    return Protocol(scalars=steps * p)


def step_bytes(step: Step, reports: int, protocol: Protocol = Protocol()) -> int:
    """Bytes of one step sent to one client: the smaller of the distinct rows of block coefficients and the scalars of
    the `reports` that it was made of, from which a client that knows the allocation computes the coefficients itself.
    """
    if isinstance(step, CombinedStep):
        return sum(step_bytes(part, 0, replace(protocol, scalars=0)) for part in step.parts)
    if protocol.encode:
        return len(protocol.encode(step))
    if isinstance(step, PrivateStep):
        return len(encode_private(step))
    assert isinstance(step, SharedStep)
    rows = len(encode_shared(step, protocol.forks, protocol.pool))
    return min(rows, reports * protocol.scalars * NUMBER) if protocol.scalars else rows


class Wire:
    """Bytes down, with catching up: who is chosen first downloads the steps since it was last here; the step that it
    contributes to comes with its next download."""

    def __init__(self, clients: int, protocol: Protocol = Protocol(), sizes: Sequence[int] = ()):
        self._protocol = protocol
        self._sizes = np.asarray(sizes, dtype=np.int64)  # of the blocks
        self._changed = np.zeros(len(sizes), dtype=np.int64)  # steps after which each block last changed
        self._sent: list[int] = [0]  # bytes of steps 0 … t−1, cumulated
        self._seen = np.zeros(clients, dtype=np.int64)  # steps that each client has
        self._sums = np.zeros((len(sizes) if protocol.pool else 0, protocol.pool))  # fedkseed's accumulators

    def download(self, clients: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes [C] of what chosen clients download; from now on they have all steps so far."""
        members = np.asarray(clients, dtype=np.int64)
        seen = self._seen[members]
        if self._protocol.dense:
            down = np.array([NUMBER * self._sizes[self._changed > steps].sum() for steps in seen])
        else:
            down = self._sent[-1] - np.asarray(self._sent)[seen]
        if self._protocol.pool:
            rows = np.unique(self._sums, axis=0)
            down = np.minimum(down, NUMBER * self._protocol.pool * int(rows.any(axis=1).sum()))
        self._seen[members] = len(self._sent) - 1
        return np.asarray(down + 2 * self._protocol.drawn, dtype=np.int64)

    def add(self, step: Step, reports: int) -> None:
        """The next step, made of so many reports."""
        if self._protocol.dense:
            self._changed[step.moved()] = step.round + 1
            self._sent.append(0)
        else:
            self._sent.append(self._sent[-1] + step_bytes(step, reports, self._protocol))
        if isinstance(step, SharedStep) and step.pool is not None:
            self._sums[:, step.pool] += step.lr * step.coefficients
