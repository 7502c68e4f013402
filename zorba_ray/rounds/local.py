"""The plain backend: one process, no Ray. It is the oracle that the Ray backend is tested against."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from zorba_ray.ledger import Step
from zorba_ray.rounds.host import Host, Tally
from zorba_ray.rounds.plan import Report, RoundPlan


class LocalBackend:
    """Carries every client in one host of this process."""

    def __init__(self, host: Host, test_examples: int):
        self.host = host
        self._batches = list(slices(test_examples, host.config.evaluation.batch))

    def probe(self, plan: RoundPlan, active: NDArray[np.bool_]) -> list[Report]:
        return self.host.probe(plan, plan.participants, active[list(plan.participants)])

    def apply(self, step: Step) -> None:
        self.host.apply([step])

    def evaluate(self) -> Tally:
        return add_tallies([self.host.evaluate([batch]) for batch in self._batches])


def slices(count: int, batch: int) -> Iterator[NDArray[np.int64]]:
    """0 … count − 1 in runs of `batch`."""
    for start in range(0, count, batch):
        yield np.arange(start, min(count, start + batch), dtype=np.int64)


def add_tallies(tallies: list[Tally]) -> Tally:
    """In the order of the test data, so that the sum does not depend on who computed which part."""
    return Tally(
        correct=sum(tally.correct for tally in tallies),
        loss_sum=sum(tally.loss_sum for tally in tallies),
        count=sum(tally.count for tally in tallies),
    )
