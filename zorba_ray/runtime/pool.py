"""The client actors: started, given the base, called, and replaced when they fail.

An actor that dies is never used again: a fresh one replays the steps from the base and does the lost work again, or,
where its node is gone and others can carry its clients, its work goes to them. A round is a pure function, so the
ledger does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import (
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    RayError,
    RayTaskError,
)

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.messages import Step
from zorba_ray.runtime.launch import alive_nodes, answer
from zorba_ray.runtime.packing import Slot, Standing

if TYPE_CHECKING:
    from zorba_ray.runs.prepared import Outline

PATIENCE = 3  # failures of one piece of work, or starts of one slot, after which the run stops
GLANCE = 5.0  # seconds between looks at the cluster while an actor that should start does not
LONGEST_START = 600.0  # seconds after which an actor that does not start is given up


@dataclass
class Member:
    """A slot, the actor standing in it now, and how many steps that actor has been sent."""

    slot: Slot
    actor: Any
    standing: Standing = field(default_factory=lambda: Standing(0, ""))
    sent: int = 0


Work = tuple[Member, tuple[Any, ...]]  # whom to call, with which arguments


@dataclass
class Pool:
    """Actors on their slots. `faults` tells what happened to whom, for the records."""

    members: list[Member]
    start: Callable[[Slot], Any]
    config: Config
    base: Any = None  # reference to the Base in the object store
    offloads: bool = False
    steps: list[Step] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _starting: list[Any] = field(default_factory=list)

    @classmethod
    def launch(cls, slots: Sequence[Slot], start: Callable[[Slot], Any], config: Config) -> Pool:
        """Start all actors; they import their libraries while the caller goes on."""
        return cls([Member(slot, start(slot)) for slot in slots], start, config)

    def read(self) -> Outline:
        """Let one actor read model and data for all. The base stays in the object store of its node, from where every
        other node fetches it once; the outline comes here."""
        self.base, outline = self.members[0].actor.read.options(num_returns=2).remote(self.config)
        try:
            got: Outline = answer(outline)
        except RayActorError as error:
            raise ConfigError(
                f"the actor that read model and data died: {first_line(error)}; is its node out of memory?"
            ) from None
        except (ObjectStoreFullError, OutOfDiskError) as error:
            raise ConfigError(
                f"neither Ray's object store nor the disk behind it holds the model: {first_line(error)}; make room "
                f"where Ray keeps its files (/tmp/ray), or give it more memory by `ray start --object-store-memory`"
            ) from None
        return got

    def setup(self, offloads: bool) -> None:
        """Let every actor build its model; `ready` waits for them."""
        self.offloads = offloads
        self._starting = [member.actor.setup.remote(self.base, offloads) for member in self.members]

    def ready(self, steps: Sequence[Step]) -> None:
        """Every actor has its model; steps of earlier rounds (a resumed run) are replayed on first use."""
        self.steps = list(steps)
        for member, standing in zip(list(self.members), self._starting, strict=True):
            try:
                member.standing = answer(standing)
            except RayTaskError as error:
                raise ConfigError(f"{member.slot.name} could not build the model: {first_line(error)}") from None
            except (RayActorError, ObjectLostError) as error:
                self._replace(member, error)

    def run(self, call: str, work: Sequence[Work], drop: bool = False) -> list[Any]:
        """`actor.call(missing steps, *arguments)` for each piece of work; answers in the order of `work`.

        Work whose actor died, or raised, is done again by another; with `drop` its answer is None instead.
        """
        answers: list[Any] = [None] * len(work)
        failures = [0] * len(work)
        carriers = [member for member, _ in work]
        pending = list(range(len(work)))
        while pending:
            sent = [(i, carriers[i].actor, self._send(call, carriers[i], work[i][1])) for i in pending]
            pending = []
            for i, actor, reference in sent:
                try:
                    answers[i] = ray.get(reference)
                    continue
                except RayTaskError as error:
                    if isinstance(error.cause, ConfigError):
                        raise error.cause from None
                    reason: RayError = error
                except (RayActorError, ObjectLostError) as error:
                    reason = error
                failures[i] += 1
                if failures[i] > PATIENCE:
                    raise ConfigError(
                        f"the work of {carriers[i].slot.name} failed {failures[i]} times without an answer, at last: "
                        f"{first_line(reason)}. Is its node out of memory? Lower clients.batch or runtime.hidden_memory"
                    )
                at_fault = carriers[i].actor is actor  # else it only waited behind what was
                carriers[i] = self._recover(carriers[i], actor, reason)
                if not (drop and at_fault):
                    pending.append(i)
        return answers

    def _send(self, call: str, member: Member, arguments: tuple[Any, ...]) -> Any:
        missing, member.sent = self.steps[member.sent :], len(self.steps)
        return getattr(member.actor, call).remote(missing, *arguments)

    def _recover(self, member: Member, actor: Any, reason: RayError) -> Member:
        """Who carries on what `actor` failed at: a fresh actor on its slot, or another member if the slot is gone."""
        if not any(member is other for other in self.members):
            return self._next()
        return member if member.actor is not actor else self._replace(member, reason)

    def _replace(self, member: Member, reason: RayError) -> Member:
        """A fresh actor on the slot, with the base and no steps yet."""
        name = member.slot.name
        what = "raised an exception" if isinstance(reason, RayTaskError) else "died"
        self.faults.append(f"{name} {what} and was replaced: {first_line(reason)}")
        for _ in range(PATIENCE):
            ray.kill(member.actor)
            if self._gone(member):
                return self._retire(member)
            member.actor, member.sent = self.start(member.slot), 0
            try:
                standing = self._build(member)
            except (RayActorError, RayTaskError) as error:
                reason = error
                continue
            if standing is None:
                return self._retire(member)
            member.standing = standing
            return member
        raise ConfigError(
            f"the actor {name} could not be started again in {PATIENCE} attempts, at last: {first_line(reason)}; is "
            f"its node out of memory? Lower clients.batch or runtime.hidden_memory, or use fewer runtime.actors"
        )

    def _build(self, member: Member) -> Standing | None:
        try:
            return self._await_start(member)
        except ObjectLostError:
            self.faults.append("the base was lost with the node that held it, and read again")
            self.base, outline = member.actor.read.options(num_returns=2).remote(self.config)
            answer(outline)
            return self._await_start(member)

    def _await_start(self, member: Member) -> Standing | None:
        """None where the node that had the room is gone, so that the actor waits in vain."""
        reference = member.actor.setup.remote(self.base, self.offloads)
        waited = 0.0
        while waited < LONGEST_START:
            done, _ = ray.wait([reference], timeout=GLANCE)
            if done:
                standing: Standing = ray.get(reference)
                return standing
            waited += GLANCE
            if self._gone(member):
                return None
        name = member.slot.name
        raise ConfigError(f"the actor {name} did not start within {LONGEST_START:.0f} s; is the cluster full?")

    def _gone(self, member: Member) -> bool:
        """Whether the slot went with its node; a client's actor that reserves nothing can stand on any other."""
        bound_to_node = not member.slot.clients or member.slot.gpu is not None
        return bound_to_node and bool(member.standing.node) and member.standing.node not in alive_nodes()

    def _retire(self, member: Member) -> Member:
        """The slot's node is gone: the others carry its work."""
        ray.kill(member.actor)
        if member.slot.clients:
            raise ConfigError(
                f"the node with the GPU of {member.slot.name} left the cluster; bring it back, or go on with what is "
                f"left by --resume and placement=cohort"
            )
        self.members = [other for other in self.members if other is not member]
        self.faults.append(f"{member.slot.name} is gone with its node; {len(self.members)} actors carry on")
        if not self.members:
            raise ConfigError("the last node with client actors left the cluster; bring one back and --resume")
        return self._next()

    def _next(self) -> Member:
        """One member after the other, so that what a lost one leaves is spread."""
        self.members.append(self.members.pop(0))
        return self.members[-1]


def first_line(error: BaseException) -> str:
    """What happened, without Ray's tracebacks: the last line of an exception in an actor (its start included), else the
    first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if isinstance(error, RayTaskError) or "creation task" in lines[0] else lines[0]
