"""The training loop's backend on a pool of actors: who computes what; answers come in an order of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages import Report, RoundPlan, Step, Tally, add_tallies, nothing_from, slices
from zorba_ray.runtime.packing import deal_work
from zorba_ray.runtime.pool import Member, Pool


class RayBackend:
    """`cost` says how much the probes of a row of a[n, l] take, to deal the work evenly; `drop`: clients whose actor
    failed are missing from the round, instead of computed again."""

    def __init__(
        self, pool: Pool, cost: Callable[[bytes], int], test_examples: int, evaluation_batch: int, drop: bool = False
    ):
        self.pool = pool
        self._cost = cost
        self._drop = drop
        self._batches = list(slices(test_examples, evaluation_batch))
        self._by_client = {client: member for member in pool.members for client in member.slot.clients}

    def probe(self, plan: RoundPlan, active: NDArray[np.bool_]) -> list[Report]:
        hands = self._deal(plan, active)
        answers = self.pool.run("probe", [(m, (plan, hand, active[hand])) for m, hand in hands], self._drop)
        reports: list[Report] = []
        for (_, hand), answer in zip(hands, answers, strict=True):
            reports += [nothing_from(n, "lost") for n in hand] if answer is None else answer
        return sorted(reports, key=lambda report: report.client)

    def _deal(self, plan: RoundPlan, active: NDArray[np.bool_]) -> list[tuple[Member, list[int]]]:
        if self._by_client:
            return [(self._by_client[n], [n]) for n in plan.participants]
        costs = [self._cost(active[n].tobytes()) for n in plan.participants]
        hands = deal_work(costs, len(self.pool.members))
        dealt = [(m, [plan.participants[i] for i in hand]) for m, hand in zip(self.pool.members, hands, strict=True)]
        return [(member, hand) for member, hand in dealt if hand]

    def apply(self, step: Step) -> None:
        """Actors receive the step with their next call."""
        self.pool.steps.append(step)

    def evaluate(self) -> Tally:
        hands = deal_work([len(batch) for batch in self._batches], len(self.pool.members))
        dealt = [(member, hand) for member, hand in zip(self.pool.members, hands, strict=True) if hand]
        answers = self.pool.run("evaluate", [(m, ([self._batches[i] for i in hand],)) for m, hand in dealt])
        tallies: dict[int, Tally] = {}
        for (_, hand), part in zip(dealt, answers, strict=True):
            tallies.update(zip(hand, part, strict=True))
        return add_tallies([tallies[i] for i in sorted(tallies)])

    def digest(self) -> str:
        """The digest of the model, which every actor must agree on."""
        digests = set(self.pool.run("digest", [(member, ()) for member in self.pool.members]))
        assert len(digests) == 1, f"the actors' weights differ: {sorted(digests)}"
        return str(digests.pop())
