"""A host: one process's model and data, on behalf of the clients it carries.

It keeps the current weights, moves them by steps, and answers for any client: the probes of a round, or the loss and
accuracy of a slice of the test data. It never decides anything, so it does not matter which host answers for whom.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_bytes
from zorba_ray.engine import CLEAN, FROZEN, Path, Version
from zorba_ray.engine.bus import bus_bytes, hidden_bytes
from zorba_ray.engine.cost import stage_flops
from zorba_ray.engine.evaluate import Outcome, Work, evaluate
from zorba_ray.engine.itinerary import itinerary, live_states
from zorba_ray.ledger import replay
from zorba_ray.ledger.wire import dense_bytes
from zorba_ray.messages import MEAN, Header, Report, RoundPlan, Step, Tally, add_tallies
from zorba_ray.methods import FirstOrder, ZeroOrder, carried_out, method_of
from zorba_ray.methods.fit import fused
from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch, joined
from zorba_ray.rounds.groups import bucket_of, groups_of
from zorba_ray.tasks import Task
from zorba_ray.tasks.answers import score
from zorba_ray.tasks.batches import epoch_batches, make_batch, sample_batch
from zorba_ray.world.budgets import client_budgets
from zorba_ray.world.clock import fleet_of


class Host:
    """The model and its data; `shards` index the training examples of each client."""

    def __init__(
        self,
        config: Config,
        model: BlockModel,
        header: Header,
        task: Task,
        shards: Sequence[NDArray[np.int64]],
    ):
        method_of(config)  # of one's own: known in this process from now on
        self.config = config
        self.model = model
        self.header = header
        self.task = task
        self.shards = shards
        self.rounds = 0  # steps applied so far
        self._bus: dict[Hashable, tuple[int, int]] = {}  # bytes, by row, live states, paths and speeds
        self._flops: dict[tuple[int, ...], list[float]] = {}  # of each stage, by shape of the mini-batch
        self._in_few_bits = np.array([block.bits is not None for block in model.blocks])
        self._hidden_memory = parse_bytes(config.runtime.hidden_memory)
        fleet = fleet_of(config, client_budgets(config.clients, config.seed)) if model.buffers > 1 else None
        self._pace = None if fleet is None else fleet.pace

    def apply(self, steps: Sequence[Step]) -> None:
        """Move the weights by the steps not yet applied; steps already applied are passed over."""
        missing = [step for step in steps if step.round >= self.rounds]
        for rounds, step in enumerate(missing, self.rounds):
            assert step.round == rounds, f"step of round {step.round} cannot follow {rounds} steps"
        if missing:
            replay([block.vector for block in self.model.blocks], self.header, missing)
            self.model.moved()
            self.rounds += len(missing)

    def catch_up(self, steps: Sequence[Step], threads: int) -> None:
        """`apply` while others stand still: on more threads than may compute losses, which for steps changes no bit."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(min(threads, os.cpu_count() or 1))
        try:
            self.apply(steps)
        finally:
            torch.set_num_threads(before)

    def vectors(self) -> list[NDArray[np.float32]]:
        """The current block vectors."""
        return [block.vector.cpu().numpy() for block in self.model.blocks]

    def adopt(self, vectors: Sequence[NDArray[np.float32]], rounds: int, digest: str) -> bool:
        """Take over the block vectors that so many steps led to; False, and nothing changes, if the digest differs."""
        import torch

        if vectors_sha256(vectors) != digest:
            return False
        for block, vector in zip(self.model.blocks, vectors, strict=True):
            block.vector.copy_(torch.tensor(vector))
        self.model.moved()
        self.rounds = rounds
        return True

    def probe(
        self, plan: RoundPlan, clients: Sequence[int], active: NDArray[np.bool_], alone: bool = False
    ) -> list[Report]:
        """The clients' scalars of this round, at the current weights; `active` has their rows of a[n, l]. `alone`: one
        client on a device of its own, that holds as many hidden states as its VRAM counts."""
        assert plan.round == self.rounds, f"probes of round {plan.round} at the weights of round {self.rounds}"
        method = carried_out(plan.method)
        if isinstance(method, FirstOrder):
            return [self._trained(method, plan, n, row) for n, row in zip(clients, active, strict=True)]
        if plan.local_steps > 1:
            reports = [self._walked(method, plan, n, row, alone) for n, row in zip(clients, active, strict=True)]
        else:
            reports = self._probed(method, plan, clients, active, alone)
        return [
            replace(report, upload=self._upload(method, plan, report, row))
            for report, row in zip(reports, active, strict=True)
        ]

    def _probed(
        self, method: ZeroOrder, plan: RoundPlan, clients: Sequence[int], active: NDArray[np.bool_], alone: bool
    ) -> list[Report]:
        """Reports of one local step, of all clients in one walk; those who share products have one work."""
        started = time.perf_counter()
        batches = [self._batch(plan, n, plan.batch) for n in clients]
        paths = [
            as_kept(method.probes(plan, n, row), row, self._in_few_bits)
            for n, row in zip(clients, active, strict=True)
        ]
        works = {
            together: Work(self._joined([batches[i] for i in together]), paths[together[0]])
            for together in self._together(batches, paths, active)
        }
        states = live_states(method.probes(plan, clients[0], np.ones_like(active[0])), self.model.columns)
        memory = self._hidden_memory
        if alone:
            memory = min(memory, states * self.model.state_bytes(batches[0]))
        outcomes = evaluate(self.model, list(works.values()), self.header.noise, memory)
        seconds = time.perf_counter() - started
        by_place = dict(zip((i for together in works for i in together), outcomes, strict=True))
        own = [Work(batch, each) for batch, each in zip(batches, paths, strict=True)]
        flops = [self._cost(work, by_place[i].visits) for i, work in enumerate(own)]
        reports = []
        for i, (n, work, row) in enumerate(zip(clients, own, active, strict=True)):
            outcome, (bus, hidden) = by_place[i], self._moved(n, work, row, states)
            reports.append(
                Report(
                    client=n,
                    scalars=method.scalars(plan, outcome.losses),
                    loss=float(outcome.losses.mean()),
                    examples=len(self.shards[n]),
                    block_evaluations=sum(outcome.visits[1:-1]),
                    flops=flops[i],
                    seconds=seconds * flops[i] / sum(flops),
                    bus=bus,
                    hidden=hidden,
                )
            )
        return reports

    def _together(
        self, batches: Sequence[Batch], paths: Sequence[tuple[Path, ...]], active: NDArray[np.bool_]
    ) -> list[tuple[int, ...]]:
        """Positions of the clients whose mini-batches share products: of a group, those with the same paths and with
        texts of about the same length. FLOPs and bytes are those of each by itself, without what it is padded with."""
        found = []
        for group in groups_of(active, fused(self.config)):
            alike: dict[Hashable, list[int]] = {}
            for i in group.tolist():
                bucket = bucket_of(batches[i].ids.shape[1]) if len(group) > 1 else 0
                alike.setdefault((bucket, paths[i] if len(group) > 1 else ()), []).append(i)
            found += [tuple(each) for each in alike.values()]
        return sorted(found)

    def _joined(self, batches: Sequence[Batch]) -> Batch:
        return joined(batches, self.task.pad_id) if len(batches) > 1 else batches[0]

    def _walked(
        self, method: ZeroOrder, plan: RoundPlan, client: int, row: NDArray[np.bool_], alone: bool
    ) -> Report:
        """One client's local steps: between them it moves as a round of its own would, and in the end it is back, to
        the bit, at the weights from which it started."""
        vectors = [block.vector for block in self.model.blocks]
        kept = [vector.clone() if on else None for vector, on in zip(vectors, row, strict=True)]
        others, equal = np.broadcast_to(row, (client + 1, len(row))), np.broadcast_to(1.0, client + 1)
        reports: list[Report] = []
        try:
            for k in range(plan.local_steps):
                here = replace(plan, step=k, batch=k, local_steps=1, aggregate=MEAN)
                reports += self._probed(method, here, [client], row[None], alone)
                if k + 1 < plan.local_steps:
                    replay(vectors, self.header, [method.step(here, reports[-1:], others, equal)])
        finally:
            for vector, copy in zip(vectors, kept, strict=True):
                if copy is not None:
                    vector.copy_(copy)
        return Report(
            client=client,
            scalars=np.concatenate([report.scalars for report in reports]),
            loss=sum(report.loss for report in reports) / len(reports),
            examples=len(self.shards[client]),
            block_evaluations=sum(report.block_evaluations for report in reports),
            flops=sum(report.flops for report in reports),
            seconds=sum(report.seconds for report in reports),
            bus=sum(report.bus for report in reports),
            hidden=sum(report.hidden for report in reports),
        )

    def _trained(self, method: FirstOrder, plan: RoundPlan, client: int, row: NDArray[np.bool_]) -> Report:
        """One client's training with gradients."""
        started = time.perf_counter()
        update = method.train(self.model, plan, client, row, self._lessons(plan, client))
        trained = [vector is not None for vector in update.vectors]
        return Report(
            client=client,
            scalars=np.zeros(0, dtype=np.float32),
            loss=update.loss,
            examples=len(self.shards[client]),
            block_evaluations=update.block_evaluations,
            flops=update.flops,
            seconds=time.perf_counter() - started,
            backward_flops=update.backward_flops,
            vectors=update.vectors,
            layout=update.layout,
            upload=dense_bytes([block.size for block in self.header.blocks], trained),
        )

    def _lessons(self, plan: RoundPlan, client: int) -> Iterator[Batch]:
        """The mini-batches of a round's training with gradients: a number of them, or passes over the client's data."""
        shard, size = self.shards[client], self.config.clients.batch
        for epoch in range(plan.options.epochs):
            for index in epoch_batches(shard, size, plan.seed, client, plan.round, epoch):
                yield make_batch(self.task.train, index, self.task)
        if not plan.options.epochs:
            yield from (self._batch(plan, client, k) for k in range(plan.options.steps))

    def _batch(self, plan: RoundPlan, client: int, k: int) -> Batch:
        """A client's k-th mini-batch of the round."""
        size = self.config.clients.batch
        index = sample_batch(self.shards[client], size, plan.seed, client, plan.round, k)
        return make_batch(self.task.train, index, self.task)

    def _upload(self, method: ZeroOrder, plan: RoundPlan, report: Report, row: NDArray[np.bool_]) -> int:
        if method.dense:
            return dense_bytes([block.size for block in self.header.blocks], row.tolist())
        return len(method.upload(plan, report.client, report.scalars))

    def _cost(self, work: Work, edges: Sequence[int]) -> float:
        """FLOPs of the visits that the walk made for a work."""
        return sum(count * flops for count, flops in zip(edges, self._stages(work), strict=True))

    def _stages(self, work: Work) -> list[float]:
        """FLOPs of each stage, once."""
        shape = tuple(work.batch.ids.shape)
        if shape not in self._flops:
            self._flops[shape] = stage_flops(self.model, *shape)
        return self._flops[shape]

    def _moved(self, client: int, work: Work, row: NDArray[np.bool_], states: int) -> tuple[int, int]:
        """Bytes over the bus for a work, and how many of them computing hides; they depend on its blocks, on which of
        its versions are equal, and on what its client's device computes meanwhile."""
        numbers: dict[Version, int] = {}
        alike = tuple(numbers.setdefault(version, len(numbers)) for path in work.paths for version in path)
        pace = None if self._pace is None else float(self._pace[client])
        key = row.tobytes(), states, alike, pace, pace and tuple(work.batch.ids.shape)
        if key not in self._bus:
            walk = itinerary(work.paths, self.model.columns, states)
            hidden = 0 if pace is None else hidden_bytes(self.model, walk, row, self._stages(work), pace)
            self._bus[key] = bus_bytes(self.model, walk, row), hidden
        return self._bus[key]

    def evaluate(self, batches: Sequence[NDArray[np.int64]]) -> Tally:
        """Loss and accuracy of the clean model on batches of test examples (index arrays)."""
        clean = (CLEAN,) * len(self.model.blocks)
        works = [Work(make_batch(self.task.test, index, self.task), (clean,)) for index in batches]
        outcomes = evaluate(self.model, works, self.header.noise, self._hidden_memory)
        if self.task.kind == "generation":
            return add_tallies([self._answered(each, outcome) for each, outcome in zip(batches, outcomes, strict=True)])
        return Tally(
            correct=sum(int(outcome.correct[0]) for outcome in outcomes),
            loss_sum=sum(float(outcome.losses[0]) * outcome.count for outcome in outcomes),
            count=sum(outcome.count for outcome in outcomes),
            right=b"" if not self.task.labels else b"".join(outcome.right[0].tobytes() for outcome in outcomes),
        )

    def _answered(self, index: NDArray[np.int64], outcome: Outcome) -> Tally:
        """Answers are generated, and judged as texts."""
        from zorba_ray.engine.generate import generate

        task, test = self.task, self.task.test
        assert test.answers is not None and test.references is not None
        prompts = [test[int(i)][: -int(test.answers[i])].tolist() for i in index]
        made = generate(self.model, prompts, task.most, task.end_id, task.pad_id, self.header.noise)
        said = [task.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in made]
        matches, total = score(task.score, said, [test.references[int(i)] for i in index])
        loss = float(outcome.losses[0]) * outcome.count
        return Tally(matches, loss, len(index), tokens=outcome.count, score=total)

    def digest(self) -> str:
        """SHA-256 over the current block vectors: equal digests mean equal models, to the bit."""
        return vectors_sha256(self.vectors())


def as_kept(paths: Sequence[Path], row: NDArray[np.bool_], in_few_bits: NDArray[np.bool_]) -> tuple[Path, ...]:
    """Paths as a client walks them that keeps blocks it has not active in few bits, where they can be kept so."""
    kept = ~row & in_few_bits
    if not kept.any():
        return tuple(paths)
    return tuple(tuple(FROZEN if few else v for few, v in zip(kept, path, strict=True)) for path in paths)


def vectors_sha256(vectors: Sequence[NDArray[np.float32]]) -> str:
    digest = hashlib.sha256()
    for vector in vectors:
        digest.update(np.ascontiguousarray(vector, dtype="<f4").data)
    return digest.hexdigest()
