"""The plain backend: one process, no Ray. It is the oracle that the Ray backend is tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages import Report, RoundPlan, Step, Tally, add_tallies, slices

if TYPE_CHECKING:
    from zorba_ray.rounds.host import Host


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

    def digest(self) -> str:
        return self.host.digest()
