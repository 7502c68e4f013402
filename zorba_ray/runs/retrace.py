"""A run's rounds made again from what its records keep of them: who was chosen, what the server received, the step.

Records hold every scalar that the server received, to the bit; what the seed and the config decide is decided again. No
model, no data, no torch. Tensors are in no record: the step of a method with gradients is the ledger's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.ledger import Entry, Ledger
from zorba_ray.messages import Reports, RoundPlan, Step
from zorba_ray.messages.reports import NUMBER_OF, OK
from zorba_ray.methods import has_gradients, method_of
from zorba_ray.records.schema import ClientRecord, EvaluationRecord, RoundRecord, to_records
from zorba_ray.records.stream import parts, read_part
from zorba_ray.rounds.allocator import active_in
from zorba_ray.rounds.draw import plan_round
from zorba_ray.rounds.loop import RoundDone, mean_loss, memory_of
from zorba_ray.runs.plans import read_plans
from zorba_ray.runs.recall import report_from
from zorba_ray.world.budgets import client_budgets
from zorba_ray.world.step import step_of
from zorba_ray.world.traffic import Wire, traffic_of
from zorba_ray.world.world import Chosen, Fates, Judged, World

PROBE = "statistics"  # status of a client's record that belongs to the allocation, not to the round

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """What the records tell of one round, or (`evaluation`) of the model between two."""

    round: RoundRecord | None
    clients: tuple[ClientRecord, ...] = ()  # probes for the allocation included
    evaluation: EvaluationRecord | None = None

    @property
    def members(self) -> list[ClientRecord]:
        """Who was asked in the round."""
        return [client for client in self.clients if client.status != PROBE]


@dataclass(frozen=True)
class Retraced:
    """A round made again: what its records say, and what the loop then yields."""

    told: Told
    event: RoundDone
    active: NDArray[np.bool_]  # a [N, L]
    entry: Entry  # the ledger's


def tell(folder: Path) -> Iterator[Told]:
    """The records round by round, one file of clients in memory at a time."""
    others = [record for file in parts(folder) if file.kind != "clients" for record in to_records(read_part(file))]
    clients = by_round(folder)
    there = next(clients, None)
    for record in sorted(others, key=lambda each: (each.round, isinstance(each, RoundRecord))):
        if isinstance(record, EvaluationRecord):
            yield Told(None, evaluation=record)
            continue
        while there is not None and there[0] < record.round:
            there = next(clients, None)
        assert isinstance(record, RoundRecord)
        if there is not None and there[0] == record.round:
            yield Told(record, tuple(there[1]))
            there = next(clients, None)
        else:
            yield Told(record)


def by_round(folder: Path) -> Iterator[tuple[int, list[ClientRecord]]]:
    """Each round that has any, and its clients' records; no round is in two files."""
    for file in parts(folder):
        if file.kind == "clients":
            found = (record for record in to_records(read_part(file)) if isinstance(record, ClientRecord))
            for round, members in itertools.groupby(found, key=lambda record: record.round):
                yield round, list(members)


def samples_of(folder: Path, clients: int) -> Floats:
    """Examples of each client [N]; 0 of those that no record names."""
    samples = np.zeros(clients)
    for told in tell(folder):
        for client in told.clients:
            samples[client.client] = max(samples[client.client], client.samples)
    return samples


@dataclass(frozen=True)
class Server:
    """What the server of a run knows beside its clients' reports: their `samples` and weights w, each [N], and a [N, L]
    of every round."""

    config: Config
    samples: Floats
    weights: Floats
    active_of: Callable[[int], NDArray[np.bool_]]

    def step(self, plan: RoundPlan, judged: Judged) -> Step:
        """The step of a round whose reports were judged so."""
        plan_of = partial(plan_round, self.config)
        make = method_of(self.config).step
        return step_of(self.config, judged, plan, make, self.active_of, plan_of, self.weights)


def server_of(folder: Path, config: Config, samples: Floats) -> Server:
    class_of = client_budgets(config.clients, config.seed).class_of
    weights = samples if config.step.weights == "samples" else np.ones_like(samples)
    return Server(config, samples, weights, partial(active_in, config, read_plans(folder), class_of))


def retrace(folder: Path, server: Server, ledger: Ledger) -> Iterator[Retraced]:
    """The rounds that ledger and records have, from the first to where one of them has a gap."""
    config = server.config
    memory = memory_of(method_of(config), config)
    sizes = [block.size for block in ledger.header.blocks]
    wire = Wire(config.clients.count, traffic_of(config), sizes)
    world = World(config, client_budgets(config.clients, config.seed), server.samples, wire)
    rounds = (told for told in tell(folder) if told.round is not None)
    for entry, told in zip(ledger.entries, rounds, strict=False):
        assert told.round is not None
        if told.round.round != entry.round:
            return
        active = server.active_of(entry.round)
        chosen = world.begin(entry.round, active)
        plan = plan_round(config, entry.round, chosen.reporting, memory.told() if memory else None)
        judged = judged_again(world, chosen, told)
        step = entry.step if has_gradients(config) else server.step(plan, judged)
        loss = mean_loss(judged.counted, server.weights)
        yield Retraced(told, RoundDone(plan, judged, step, loss), active, entry)
        world.end(judged, entry.step)
        if memory:
            memory.add(entry.step)


def judged_again(world: World, chosen: Chosen, told: Told) -> Judged:
    """The end of a round as its records have it; `chosen` is whom the seed chooses."""
    assert told.round is not None
    members = told.members
    fates = Fates(
        client=np.array([each.client for each in members], dtype=np.int64),
        status=np.array([NUMBER_OF[each.status] for each in members], dtype=np.int8),
        download=np.array([each.bytes_down for each in members], dtype=np.int64),
        seconds=np.array([each.virtual_seconds for each in members], dtype=np.float64),
        lied=np.array([each.lied for each in members], dtype=np.bool_),
        reports=Reports.of([report_from(vars(each)) for each in members if each.status != "dropped"]),
    )
    now = told.round.virtual_seconds
    arrived = [late for late in world.pending if now is not None and late.arrival <= now]
    return Judged(chosen, fates, fates.of_status(OK), arrived, now)
