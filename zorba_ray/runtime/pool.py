"""The client actors, and the Ray backend of the training loop.

An actor that dies is replaced by a fresh one, which replays the steps from the base and does the lost work again: a
round is a pure function, so the ledger does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayActorError

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger import Step
from zorba_ray.rounds.plan import Report, RoundPlan
from zorba_ray.rounds.tally import Tally, add_tallies, slices
from zorba_ray.runtime.packing import Slot, deal_work

PATIENCE = 3  # deaths of one slot without an answer in between, after which the run stops


@dataclass
class Member:
    """A slot, the actor standing in it now, and how many steps that actor has been sent."""

    slot: Slot
    actor: Any
    pid: int = 0
    sent: int = 0
    deaths: int = 0


@dataclass
class Pool:
    """Actors on their slots. `faults` tells what happened to whom, for the records."""

    members: list[Member]
    start: Callable[[Slot], Any]
    base: Any = None  # reference to the Base in the object store
    offloaded: Callable[[Slot], Sequence[int]] = lambda slot: ()  # blocks that a slot's actor keeps in host memory
    steps: list[Step] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def launch(cls, slots: Sequence[Slot], start: Callable[[Slot], Any]) -> Pool:
        """Start all actors; they import their libraries while the caller goes on."""
        return cls([Member(slot, start(slot)) for slot in slots], start)

    def setup(self, base: Any, steps: Sequence[Step], offloaded: Callable[[Slot], Sequence[int]]) -> None:
        """Give every actor the base; steps of earlier rounds (a resumed run) are replayed on first use."""
        self.base, self.offloaded = base, offloaded
        self.steps = list(steps)
        pids = ray.get([member.actor.setup.remote(base, offloaded(member.slot)) for member in self.members])
        for member, pid in zip(self.members, pids, strict=True):
            member.pid = pid

    def run(self, call: str, work: Sequence[tuple[Member, tuple[Any, ...]]]) -> list[Any]:
        """`actor.call(missing steps, *arguments)` for each piece of work; answers in the order of `work`."""
        answers: list[Any] = [None] * len(work)
        pending = {self._send(call, member, arguments): i for i, (member, arguments) in enumerate(work)}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            position = pending.pop(done[0])
            member, arguments = work[position]
            try:
                answers[position] = ray.get(done[0])
                member.deaths = 0
            except RayActorError as error:
                self._replace(member, error)
                pending[self._send(call, member, arguments)] = position
        return answers

    def _send(self, call: str, member: Member, arguments: tuple[Any, ...]) -> Any:
        missing, member.sent = self.steps[member.sent :], len(self.steps)
        return getattr(member.actor, call).remote(missing, *arguments)

    def _replace(self, member: Member, error: RayActorError) -> None:
        member.deaths += 1
        self.faults.append(f"{member.slot.name} died and was replaced: {str(error).splitlines()[0]}")
        if member.deaths > PATIENCE:
            raise ConfigError(
                f"the actor {member.slot.name} died {member.deaths} times in a row without finishing its work; "
                f"is its node out of memory? Lower clients.batch or runtime.hidden_memory, or use fewer runtime.actors"
            )
        ray.kill(member.actor)
        member.actor = self.start(member.slot)
        member.actor.setup.remote(self.base, self.offloaded(member.slot))
        member.sent = 0


class RayBackend:
    """The training loop's backend on a pool of actors."""

    def __init__(self, pool: Pool, cost: Callable[[bytes], int], test_examples: int, evaluation_batch: int):
        self.pool = pool
        self._cost = cost  # stages that the probes of a row of a[n, l] evaluate, to deal the work evenly
        self._batches = list(slices(test_examples, evaluation_batch))
        self._by_client = {member.slot.clients[0]: member for member in pool.members if member.slot.clients}

    def probe(self, plan: RoundPlan, active: NDArray[np.bool_]) -> list[Report]:
        if self._by_client:
            work = [(self._by_client[n], (plan, [n], active[[n]])) for n in plan.participants]
        else:
            hands = deal_work([self._cost(active[n].tobytes()) for n in plan.participants], len(self.pool.members))
            clients = [[plan.participants[i] for i in hand] for hand in hands]
            work = [
                (member, (plan, hand, active[hand]))
                for member, hand in zip(self.pool.members, clients, strict=True)
                if hand
            ]
        answers = self.pool.run("probe", work)
        return sorted((report for reports in answers for report in reports), key=lambda report: report.client)

    def apply(self, step: Step) -> None:
        """Actors receive the step with their next call."""
        self.pool.steps.append(step)

    def evaluate(self) -> Tally:
        hands = deal_work([len(batch) for batch in self._batches], len(self.pool.members))
        work = [
            (member, ([self._batches[i] for i in hand],))
            for member, hand in zip(self.pool.members, hands, strict=True)
            if hand
        ]
        answers = self.pool.run("evaluate", work)
        tallies: dict[int, Tally] = {}
        for hand, part in zip([hand for hand in hands if hand], answers, strict=True):
            tallies.update(zip(hand, part, strict=True))
        return add_tallies([tallies[i] for i in sorted(tallies)])

    def digest(self) -> str:
        """The digest of the model, which every actor must agree on."""
        digests = set(self.pool.run("digest", [(member, ()) for member in self.pool.members]))
        assert len(digests) == 1, f"the actors' weights differ: {sorted(digests)}"
        return str(digests.pop())

