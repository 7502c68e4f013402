"""What a round cost on the wire, from what would really be sent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zorba_ray.ledger.step import SharedStep, Step
from zorba_ray.rounds.plan import Report


def step_bytes(step: Step, reports: list[Report]) -> int:
    """Bytes of one step sent to one client.

    With shared noise the smaller of the L·P block coefficients and the participants' scalars, from which a client that
    knows the allocation computes the coefficients itself; seeds are derived on both sides and cost nothing.
    """
    if isinstance(step, SharedStep):
        return min(len(step.payload()), sum(report.scalars.nbytes for report in reports))
    return len(step.payload())


class Wire:
    """Bytes per client, with catching up: a client that takes part downloads every step since it was last here."""

    def __init__(self, clients: int):
        self._sent: list[int] = [0]  # bytes of steps 0 … t−1, cumulated
        self._seen = np.zeros(clients, dtype=np.int64)  # steps that each client has

    def round(self, step: Step, reports: list[Report]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bytes up and down [C] of a round's participants, in the order of the reports."""
        self._sent.append(self._sent[-1] + step_bytes(step, reports))
        cumulated = np.asarray(self._sent)
        members = [report.client for report in reports]
        up = np.array([report.scalars.nbytes for report in reports], dtype=np.int64)
        down = cumulated[-1] - cumulated[self._seen[members]]
        self._seen[members] = step.round + 1
        return up, down
