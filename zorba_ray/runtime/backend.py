"""The training loop's backend on a pool of actors: who computes what; answers come in an order of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages import Reports, RoundPlan, Step, Tally, add_tallies, nothing_from, slices
from zorba_ray.rounds.groups import groups_of
from zorba_ray.runtime.packing import alike, deal_work
from zorba_ray.runtime.pool import Member, Pool
from zorba_ray.runtime.waiting import Halted


class RayBackend:
    """An actor is told of its own participants only. `cost` says how much the probes of a row of a[n, l] take, to deal
    the work evenly; `drop`: clients whose actor failed are missing from the round, instead of computed again; `fuse`
    clients of a row are dealt together, because they share products."""

    def __init__(
        self, pool: Pool, cost: Callable[[bytes], int], test_examples: int, evaluation_batch: int, drop: bool = False,
        fuse: int = 1,
    ):
        self.pool = pool
        self._cost = cost
        self._drop = drop
        self._fuse = fuse
        self._batches = list(slices(test_examples, evaluation_batch))

    def probe(self, plan: RoundPlan, active: NDArray[np.bool_]) -> Reports:
        hands = self._deal(plan, active)
        news = self.pool.watch.news
        what = f"round {plan.round + 1}" if plan.method != "statistics" else "probing single blocks"
        news.enter(what)
        work = [(m, (replace(plan, participants=tuple(hand.tolist())), hand, active[hand])) for m, hand in hands]
        answers = self.pool.run("probe", work, self._drop, what)
        parts = [
            Reports.of([nothing_from(n, "lost") for n in hand.tolist()] if answer is None else answer)
            for (_, hand), answer in zip(hands, answers, strict=True)
        ]
        return Reports.joined(parts).in_order()

    def _deal(self, plan: RoundPlan, active: NDArray[np.bool_]) -> list[tuple[Member, NDArray[np.int64]]]:
        """Who answers for which clients."""
        participants = np.array(plan.participants, dtype=np.int64)
        by_client = {client: member for member in self.pool.members for client in member.clients}
        if by_client:
            return [(by_client[n], participants[i : i + 1]) for i, n in enumerate(plan.participants)]
        rows = active[participants]
        first, which = alike(rows)
        costs = np.array([self._cost(row.tobytes()) for row in rows[first]], dtype=np.int64)
        groups = groups_of(rows, self._fuse) if self._fuse > 1 else None
        each = costs[which] if groups is None else [int(costs[which[group]].sum()) for group in groups]
        hands = deal_work(each, len(self.pool.members))
        if groups is not None:
            hands = [np.sort(np.concatenate([groups[i] for i in hand])) if len(hand) else hand for hand in hands]
        return [(m, participants[hand]) for m, hand in zip(self.pool.members, hands, strict=True) if len(hand)]

    def apply(self, step: Step) -> None:
        """Actors receive the step with their next call."""
        self.pool.steps.append(step)

    def evaluate(self) -> Tally:
        hands = deal_work([len(batch) for batch in self._batches], len(self.pool.members))
        dealt = [(m, hand.tolist()) for m, hand in zip(self.pool.members, hands, strict=True) if len(hand)]
        self.pool.watch.news.enter("evaluating")
        work = [(m, ([self._batches[i] for i in hand],)) for m, hand in dealt]
        answers = self.pool.run("evaluate", work, what="evaluating")
        tallies: dict[int, Tally] = {}
        for (_, hand), part in zip(dealt, answers, strict=True):
            tallies.update(zip(hand, part, strict=True))
        return add_tallies([tallies[i] for i in sorted(tallies)])

    def digest(self) -> str:
        """The digest of the model, which every actor must agree on; empty where the run was halted, and its actors may
        not answer."""
        work = [(member, ()) for member in self.pool.members]
        try:
            digests = set(self.pool.run("digest", work, what="comparing the actors' weights"))
        except Halted:
            return ""
        assert len(digests) == 1, f"the actors' weights differ: {sorted(digests)}"
        return str(digests.pop())
