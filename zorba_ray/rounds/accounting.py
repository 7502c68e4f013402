"""What a round cost on the wire, from what would really be sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.ledger.step import SharedStep, Step

SCALAR: int = np.dtype(np.float32).itemsize


def step_bytes(step: Step, participants: int) -> int:
    """Bytes of one step sent to one client.

    With shared noise the smaller of the L·P block coefficients and the participants' P scalars each, from which a
    client that knows the allocation computes the coefficients itself; seeds are derived on both sides and cost nothing.
    """
    payload = len(step.payload())
    if isinstance(step, SharedStep):
        return min(payload, participants * int(step.coefficients.shape[1]) * SCALAR)
    return payload


class Wire:
    """Bytes per client, with catching up: a client that takes part downloads every step since it was last here."""

    def __init__(self, clients: int):
        self._sent: list[int] = [0]  # bytes of steps 0 … t−1, cumulated
        self._seen = np.zeros(clients, dtype=np.int64)  # steps that each client has

    def round(self, step: Step, participants: Sequence[int]) -> NDArray[np.int64]:
        """Bytes down [C] to the participants of a round, its own step included."""
        self._sent.append(self._sent[-1] + step_bytes(step, len(participants)))
        members = np.asarray(participants)
        down = self._sent[-1] - np.asarray(self._sent)[self._seen[members]]
        self._seen[members] = step.round + 1
        return np.asarray(down, dtype=np.int64)
