"""The client actors: started, given the base, called, and replaced when they fail.

An actor that dies is never used again: a fresh one takes the current weights from one that is well (else from a
snapshot, else it replays the steps from the base) and does the lost work again. Where its node is gone and others can
carry its clients, or where memory ran out, its work goes to them. A round is a pure function, so the ledger does not
notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError, RayError

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.config.units import format_bytes, parse_bytes
from zorba_ray.ledger.snapshot import Snapshot
from zorba_ray.messages import Step, TensorStep
from zorba_ray.runtime.deaths import first_line, is_death, ran_out_of_memory, what_happened
from zorba_ray.runtime.launch import alive_nodes, answer
from zorba_ray.runtime.packing import Slot, Standing
from zorba_ray.runtime.waiting import Late, NoRoom, Watch, listed

if TYPE_CHECKING:
    from zorba_ray.runs.prepared import Outline

PATIENCE = 3  # failures of one piece of work, or starts of one slot, after which the run stops
LATECOMERS = 30.0  # seconds that an actor may still wait for room when others are there to carry its work
LEAST_HIDDEN = 2**20  # bytes of hidden states, below which a smaller walk saves nothing
CHUNK = 200  # steps that are sent in one message
MEND = "lower clients.batch, runtime.hidden_memory or runtime.actors"


@dataclass
class Member:
    """A slot with the clients that it carries (none: any), the actor standing in it now, how many steps that actor has
    been sent, and whether it has the weights that they lead to."""

    slot: Slot
    actor: Any
    clients: tuple[int, ...] = ()
    standing: Standing = field(default_factory=lambda: Standing(0, ""))
    sent: int = 0
    well: bool = False

    @property
    def movable(self) -> bool:
        """Whether others can carry its clients: nothing binds them to a GPU of their own."""
        return self.slot.gpu is None or not self.clients


Work = tuple[Member, tuple[Any, ...]]  # whom to call, with which arguments


@dataclass
class Pool:
    """Actors on their slots. `faults` tells what happened to whom, for the records; `snapshots` gives those of the run,
    the newest first."""

    members: list[Member]
    start: Callable[[Slot], Any]
    config: Config
    watch: Watch
    hidden: int  # bytes of hidden states that a walk of a fresh actor may hold
    base: Any = None  # reference to the Base in the object store
    offloads: bool = False
    steps: list[Step] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    snapshots: Callable[[], Iterable[Snapshot]] = tuple
    _standing: dict[str, Any] = field(default_factory=dict)  # where the actor of a slot stands, once it has room
    _setup: dict[str, Any] = field(default_factory=dict)
    _given: tuple[int, Any, str] | None = None  # what fresh actors were given last: rounds, reference, digest

    @classmethod
    def launch(cls, slots: Sequence[Slot], start: Callable[[Slot], Any], config: Config, watch: Watch) -> Pool:
        """Start all actors; they import their libraries while the caller goes on."""
        members = [Member(slot, start(slot), slot.clients) for slot in slots]
        pool = cls(members, start, config, watch, parse_bytes(config.runtime.hidden_memory))
        pool._standing = {member.slot.name: member.actor.stand.remote() for member in members}
        return pool

    def read(self) -> Outline:
        """Let the actor that has room first read model and data for all. The base stays in the object store of its
        node, from where every other node fetches it once; the outline comes here."""
        reader = self._first()
        self.watch.news.enter("reading model and data")
        self.base, outline = reader.actor.read.options(num_returns=2).remote(self.config)
        self._await("read", "reading model and data", [(outline, reader)])
        try:
            got: Outline = answer(outline)
        except (ObjectStoreFullError, OutOfDiskError) as error:
            raise ConfigError(
                f"neither Ray's object store nor the disk behind it holds the model: {first_line(error)}; make room "
                f"where Ray keeps its files (/tmp/ray), or give it more memory by `ray start --object-store-memory`"
            ) from None
        except RayError as error:
            if not is_death(error):
                raise
            raise ConfigError(
                f"the actor that read model and data {what_happened(error)}: {first_line(error)}; is there a node with "
                f"room for the model?"
            ) from None
        from zorba_ray.runs.prepared import settled

        self.config = settled(self.config, got)  # whoever reads again must come to the same
        return got

    def _first(self) -> Member:
        """A member whose actor has room."""
        waiting = {self._standing[member.slot.name]: member for member in self.members}
        names = listed([member.slot.name for member in self.members])
        reason = ""
        while waiting:
            there = self.watch.for_room(list(waiting), f"room for the client actors ({names})") or list(waiting)
            member, reference = waiting.pop(there[0]), there[0]
            try:
                member.standing = ray.get(reference)
                return member
            except RayError as error:
                reason = first_line(error)
        raise ConfigError(f"no client actor could be started, at last: {reason}; is the node out of memory? {MEND}")

    def keep(self, most: Callable[[str], int]) -> None:
        """Let go of actors beyond the `most` that a node has memory for, at least one of all; those that still wait for
        room are not counted yet."""
        nodes: dict[str, int] = {}
        for member in [m for m in self.members if m.standing.node or self._has_room(m)]:
            node = member.standing.node
            nodes[node] = nodes.get(node, 0) + 1
            if nodes[node] > most(node) and len(self.members) > 1:
                ray.kill(member.actor)
                self._leave(member)

    def _has_room(self, member: Member) -> bool:
        reference = self._standing[member.slot.name]
        if not ray.wait([reference], timeout=0)[0]:
            return False
        try:
            member.standing = ray.get(reference)
        except RayError:
            return False
        return True

    def setup(self, offloads: bool) -> None:
        """Let every actor build its model; `ready` waits for them."""
        self.offloads = offloads
        self._setup = {m.slot.name: m.actor.setup.remote(self.base, offloads, self.hidden) for m in self.members}

    def ready(self, steps: Sequence[Step]) -> None:
        """Every actor has its model, at the weights that the steps of earlier rounds (a resumed run) lead to."""
        self.steps = list(steps)
        self.watch.news.enter("building the model in every actor")
        for member in list(self.members):
            self._seat(member)
        pairs = [(self._setup[member.slot.name], member) for member in self.members]
        self._await("setup", "building the model", pairs)
        for reference, member in pairs:
            try:
                member.standing = answer(reference)
                self._level(member)
            except RayError as error:
                if not is_death(error) and not ran_out_of_memory(error):
                    raise ConfigError(f"{member.slot.name} could not build the model: {first_line(error)}") from None
                self._recover(member, member.actor, error)

    def _seat(self, member: Member) -> None:
        """Wait until the member's actor has room; where it has none and others have, these carry its work."""
        spared = member.movable and any(other.standing.node for other in self.members if other is not member)
        what = f"room for the actor {member.slot.name}"
        try:
            self.watch.for_room([self._standing[member.slot.name]], what, LATECOMERS if spared else None)
        except Late as late:
            if not spared:
                raise
            self._say(f"{late}; the run goes on without it")
            ray.kill(member.actor)
            self._leave(member)
            return
        self._has_room(member)

    def run(self, call: str, work: Sequence[Work], drop: bool = False, what: str = "") -> list[Any]:
        """`actor.call(missing steps, *arguments)` for each piece of work; answers in the order of `work`.

        Work whose actor died, or raised, is done again by another; with `drop` its answer is None instead.
        """
        answers: list[Any] = [None] * len(work)
        failures = [0] * len(work)
        carriers = [member for member, _ in work]
        pending = list(range(len(work)))
        while pending:
            sent = [(i, carriers[i], carriers[i].actor, self._send(call, carriers[i], work[i][1])) for i in pending]
            self._await(call, what or call, [(reference, member) for _, member, _, reference in sent])
            pending = []
            for i, member, actor, reference in sent:
                try:
                    answers[i] = answer(reference)
                    continue
                except RayError as error:
                    reason = error
                failures[i] += not ran_out_of_memory(reason)
                if failures[i] > PATIENCE:
                    raise ConfigError(
                        f"the work of {member.slot.name} failed {failures[i]} times without an answer, at last: "
                        f"{first_line(reason)}. Is its node out of memory? Then {MEND}"
                    )
                at_fault = member.actor is actor  # else it only waited behind what was
                carriers[i] = self._recover(member, actor, reason)
                if not (drop and at_fault):
                    pending.append(i)
        return answers

    def _send(self, call: str, member: Member, arguments: tuple[Any, ...]) -> Any:
        missing, member.sent = self.steps[member.sent :], len(self.steps)
        return getattr(member.actor, call).remote(missing, *arguments)

    def _await(self, call: str, what: str, pairs: Sequence[tuple[Any, Member]]) -> None:
        """Until all have answered or failed. An actor that stands still for too long is killed, which is a failure."""
        asked = [(reference, member.slot.name, member.standing) for reference, member in pairs]
        while lost := self.watch.for_answers(call, what, asked):
            for actor in {id(pairs[i][1]): pairs[i][1].actor for i in lost}.values():
                ray.kill(actor)

    def _recover(self, member: Member, actor: Any, reason: RayError) -> Member:
        """Who carries on what `actor` failed at: a fresh actor on its slot, or another member if the slot is gone."""
        if not any(member is other for other in self.members):
            return self._next()
        if member.actor is not actor:
            return member
        return self._shrink(member, reason) if ran_out_of_memory(reason) else self._replace(member, reason)

    def _shrink(self, member: Member, reason: RayError) -> Member:
        """The same again would end alike: without this actor there is room for the others; one that cannot be done
        without holds less at once."""
        name = member.slot.name
        if member.slot.gpu is None and len(self.members) > 1:
            ray.kill(member.actor)
            self._leave(member)
            self._say(f"{name} ran out of memory and was given up: {first_line(reason)}; {self._left()}")
            return self._next()
        if self.hidden // 4 < LEAST_HIDDEN:
            raise ConfigError(
                f"{name} ran out of memory, even with {format_bytes(self.hidden)} of hidden states and "
                f"{len(self.members)} actors: {first_line(reason)}. Lower clients.batch or task.max_tokens, or use a "
                f"machine with more memory"
            )
        self.hidden //= 4
        self._say(f"{name} ran out of memory; its successor holds {format_bytes(self.hidden)} of hidden states at once")
        return self._replace(member, reason)

    def _replace(self, member: Member, reason: RayError) -> Member:
        """A fresh actor on the slot, at the current weights."""
        name, member.well = member.slot.name, False
        self._say(f"{name} {what_happened(reason)} and was replaced: {first_line(reason)}")
        for _ in range(PATIENCE):
            ray.kill(member.actor)
            if self._gone(member):
                return self._retire(member)
            member.actor, member.sent = self.start(member.slot), 0
            try:
                if not self._build(member):
                    return self._retire(member)
                self._level(member)
                return member
            except RayError as error:
                reason = error
                if ran_out_of_memory(error):
                    return self._shrink(member, error)
        raise ConfigError(
            f"the actor {name} could not be started again in {PATIENCE} attempts, at last: {first_line(reason)}; is "
            f"its node out of memory? Then {MEND}"
        )

    def _build(self, member: Member) -> bool:
        """False where the node that had the room is gone, so that the actor waits in vain."""
        there = self.watch.for_room(
            [member.actor.stand.remote()], f"room for {member.slot.name} again", gone=lambda: self._gone(member)
        )
        if there is None:
            return False
        member.standing = ray.get(there[0])
        try:
            member.standing = self._ask(member, "setup", "building the model", self.base, self.offloads, self.hidden)
        except ObjectLostError:
            self._say("the base was lost with the node that held it, and read again")
            self.base, outline = member.actor.read.options(num_returns=2).remote(self.config)
            self._await("read", "reading model and data again", [(outline, member)])
            answer(outline)
            member.standing = self._ask(member, "setup", "building the model", self.base, self.offloads, self.hidden)
        return True

    def _ask(self, member: Member, call: str, what: str, *arguments: Any) -> Any:
        reference = getattr(member.actor, call).remote(*arguments)
        self._await(call, what, [(reference, member)])
        return answer(reference)

    def _level(self, member: Member) -> None:
        """Bring a built actor to the current weights: from one that is well, through the object store, else from a
        snapshot; what is then still missing it replays."""
        if self.steps and not self._adopt_current(member):
            self._adopt_snapshot(member)
        while member.sent < len(self.steps):
            self.watch.news.enter(f"replaying round {member.sent} of {len(self.steps)}")
            first, count = self.steps[member.sent], CHUNK
            chunk = self.steps[member.sent : member.sent + (1 if isinstance(first, TensorStep) else count)]
            self._ask(member, "apply", "replaying the ledger", chunk, self._idle_threads(member.standing.node))
            member.sent += len(chunk)
        member.well = True

    def _idle_threads(self, node: str) -> int:
        """Of the actors on a node, that wait for the one which replays."""
        return self.config.runtime.threads * sum(member.standing.node == node for member in self.members)

    def _adopt_snapshot(self, member: Member) -> None:
        for kept in self.snapshots():
            self.watch.news.enter(f"taking over the weights of round {kept.rounds}")
            vectors = ray.put(kept.vectors)
            if self._ask(member, "adopt", "taking over a snapshot", vectors, kept.rounds, kept.sha256):
                member.sent = kept.rounds
                return
            self._say(f"the snapshot of round {kept.rounds} is damaged and was passed over")

    def _adopt_current(self, member: Member) -> bool:
        """Take over the weights of a member that is well; its digest proves that they arrived."""
        while True:
            current = self.weights()
            if current is None:
                return False
            rounds, reference, digest = current
            try:
                adopted = self._ask(member, "adopt", "taking over the weights", reference, rounds, digest)
            except ObjectLostError:
                self._given = None
                continue
            if adopted:
                member.sent = rounds
            return bool(adopted)

    def weights(self) -> tuple[int, Any, str] | None:
        """How many steps led to the current weights, the reference to their vectors, and their digest; None if no actor
        is well. Made once for all who ask at the same round."""
        if self._given is not None and self._given[0] == len(self.steps):
            return self._given
        self._given = None
        for donor in [member for member in self.members if member.well]:
            missing, donor.sent = self.steps[donor.sent :], len(self.steps)
            vectors, digest = donor.actor.weights.options(num_returns=2).remote(missing)
            try:
                self._await("weights", "fetching the weights", [(digest, donor)])
                self._given = len(self.steps), vectors, answer(digest)
                return self._given
            except RayError:  # what it was asked to do meanwhile will find that, too
                donor.well = False
        return None

    def _gone(self, member: Member) -> bool:
        """Whether the slot went with its node; a client's actor that reserves nothing can stand on any other."""
        bound_to_node = not member.slot.clients or member.slot.gpu is not None
        return bound_to_node and bool(member.standing.node) and member.standing.node not in alive_nodes()

    def _retire(self, member: Member) -> Member:
        """The slot's node is gone: the others carry its work."""
        ray.kill(member.actor)
        if not member.movable:
            raise NoRoom(
                f"the node with the GPU of {member.slot.name} left the cluster; bring it back, or go on with what is "
                f"left by --resume and placement=cohort"
            )
        self._leave(member)
        if not self.members:
            raise NoRoom("the last node with client actors left the cluster; bring one back and --resume")
        self._say(f"{member.slot.name} is gone with its node; {self._left()}")
        return self._next()

    def _leave(self, member: Member) -> None:
        """Without the member, whose clients go to those that have the fewest."""
        self.members = [other for other in self.members if other is not member]
        for client in member.clients if self.members else ():
            fewest = min(self.members, key=lambda other: len(other.clients))
            fewest.clients = (*fewest.clients, client)

    def _left(self) -> str:
        count = len(self.members)
        return f"{count} actors carry on" if count > 1 else f"{self.members[0].slot.name} carries on alone"

    def _next(self) -> Member:
        """One member after the other, so that what a lost one leaves is spread."""
        self.members.append(self.members.pop(0))
        return self.members[-1]

    def _say(self, line: str) -> None:
        self.faults.append(line)
        self.watch.news.say(line)
