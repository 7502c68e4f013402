"""A run and its folder: what training yields becomes ledger entries, records and a summary on disk."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zorba_ray.allocation import Plan
from zorba_ray.config.schema import Config
from zorba_ray.ledger import LedgerWriter
from zorba_ray.messages import Header, Reports, Step, TensorStep, scalars_of
from zorba_ray.messages.reports import NUMBER_OF, STATUSES
from zorba_ray.records.schema import (
    ClientRecord,
    EvaluationRecord,
    RoundRecord,
    client_table,
    narrowed,
    to_records,
    to_table,
    widened,
)
from zorba_ray.records.stream import FOLDER, RecordWriter, read_parts
from zorba_ray.rounds.allocator import Allocated
from zorba_ray.rounds.loop import Backend, Evaluated, RoundDone, evaluated_after, train
from zorba_ray.runs.bound import bind
from zorba_ray.runs.collapse import Collapse
from zorba_ray.runs.dealt import write_dealt
from zorba_ray.runs.exposure import client_accuracy
from zorba_ray.runs.folder import LEDGER, Claim
from zorba_ray.runs.memory import FILE as MEMORY
from zorba_ray.runs.memory import ClassMemory, write_memory
from zorba_ray.runs.past import nothing
from zorba_ray.runs.plans import probes_before, store
from zorba_ray.runs.prepared import Prepared
from zorba_ray.runs.recall import recall
from zorba_ray.runs.resume import keep_config
from zorba_ray.runs.rewind import Rewound
from zorba_ray.runs.still import Still
from zorba_ray.runs.stop import Target
from zorba_ray.runs.summary import FILE as SUMMARY
from zorba_ray.runs.summary import Summary, read_summary, summarise
from zorba_ray.world.privacy import accountant_of
from zorba_ray.world.traffic import Wire, traffic_of
from zorba_ray.world.weights import weights_note
from zorba_ray.world.world import Fates, World


class Session:
    """Opens (or re-opens) the files of a run in its claimed folder, and writes as the rounds go by."""

    def __init__(self, config: Config, prepared: Prepared, claim: Claim, earlier: Rewound | None = None):
        """`earlier`: what is whole of a run that goes on (`rewind.earlier`)."""
        self.config = config
        self.prepared = prepared
        self.claim = claim
        self.folder = folder = claim.folder
        self.notes: list[str] = [*prepared.outline.notes]
        self._earlier_seconds = 0.0
        read, past = None, nothing()
        if earlier is not None:
            read, past = earlier.ledger, earlier.past
            self.notes += earlier.notes
            if (folder / SUMMARY).exists():
                self._earlier_seconds = read_summary(folder).seconds
        else:
            (folder / LEDGER).unlink(missing_ok=True)  # of a process that died at its first line
            for round, plan in prepared.allocator.plans.items():
                store(Allocated(round, plan, prepared.allocator.given, []), (), folder)
            write_dealt(prepared.outline.dealt, folder)
            bind(config, prepared.outline.header, folder)
            keep_config(config, folder)
        self.ledger = LedgerWriter(folder / LEDGER, prepared.outline.header, read)
        self.writer = RecordWriter(folder / FOLDER)
        entries = read.entries if read else []
        self.steps: list[Step] = [entry.step for entry in entries]
        self._first_loss = next((entry.loss for entry in entries if math.isfinite(entry.loss)), None)
        self.statuses: Counter[str] = Counter()  # of the clients' reports in this sitting
        self._evaluated = past.evaluated
        self.target = Target(config.stop, past)
        self._collapse = Collapse(config.guard.collapse, prepared.outline.guess)
        self._still = Still(config, prepared.outline.scales)
        for row in past.evaluations.to_pylist():
            self._collapse.recall(row["accuracy"], row["loss"], row["examples"])
        sizes = [block.size for block in prepared.outline.header.blocks]
        wire = Wire(config.clients.count, traffic_of(config), sizes)
        self.world = World(config, prepared.outline.budgets, prepared.outline.samples, wire)
        self.notes += filter(None, [weights_note(config, prepared.outline.samples, prepared.outline.weights)])
        self._accountant = accountant_of(config)
        if self._accountant is not None:
            self.notes.append(f"privacy: δ = {config.privacy.delta:g}, {self._accountant.assumption}")
        recall(self.world, self.steps, past, prepared.allocator.active_in)

    def events(self, backend: Backend) -> Iterator[RoundRecord | EvaluationRecord | str]:
        """Train from where the ledger ends, to the last round; what is yielded is in the ledger and the records."""
        allocator, weights = self.prepared.allocator, self.prepared.outline.weights
        if self.target.reached():
            yield from self._last_evaluation(backend)
            return
        if allocator.plans:
            yield from describe(allocator.plan_in(self.ledger.rounds))
        started = time.perf_counter()
        past = self._first_loss, self._evaluated
        for event in train(self.config, backend, self.ledger, allocator, self.world, weights, *past):
            if isinstance(event, Allocated):
                probed = self._client_records(event.round, probing(Reports.of(event.reports)))
                probes = to_records(widened(probed, "clients"))
                store(event, [each for each in probes if isinstance(each, ClientRecord)], self.folder)
                yield from describe(event.plan)
            elif isinstance(event, Evaluated):
                yield from self._evaluation(event)
            else:
                self.steps.append(event.step)
                record, clients = self._records(event, time.perf_counter() - started)
                self.writer.add([record], clients)
                self.target.round(record, clients["flops"], clients["backward_flops"])
                statuses = pc.value_counts(clients["status"])
                self.statuses.update(dict(zip(*(field.to_pylist() for field in statuses.flatten()), strict=True)))
                yield record
                for said in self._still.seen(event):
                    self.notes.append(said)
                    yield said
            if self.target.reached():
                yield from self._last_evaluation(backend)
                return
            started = time.perf_counter()

    def _evaluation(self, event: Evaluated) -> Iterator[EvaluationRecord | str]:
        """Its record, and what the guard says of it."""
        exposure = self.prepared.outline.exposure
        apart = client_accuracy(exposure, event.right) if exposure is not None else None
        mean, worst = apart if apart is not None else (None, None)
        evaluation = EvaluationRecord(
            event.rounds, event.accuracy, event.loss, event.examples, mean, worst, event.score
        )
        self.writer.add([evaluation])
        self.target.evaluation(evaluation)
        self._evaluated |= {event.rounds}
        yield evaluation
        if said := self._collapse.seen(event.rounds, event.accuracy, event.loss, event.examples):
            self.notes.append(said)
            yield said

    def _last_evaluation(self, backend: Backend) -> Iterator[EvaluationRecord | str]:
        """Of a run that has reached a target: the model that it ends with is evaluated, as any other run's is."""
        if self.ledger.rounds not in self._evaluated:
            yield from self._evaluation(evaluated_after(self.ledger.rounds, backend.evaluate()))

    def _records(self, event: RoundDone, seconds: float) -> tuple[RoundRecord, pa.Table]:
        """A round's records. Probes for statistics, if any, count with the round that they precede, whoever made them
        and however often this round is done: their records lie beside their plan."""
        plan, judged = event.plan, event.judged
        clients = self._client_records(plan.round, judged.fates)
        if probes := probes_before(plan.round, self.folder):
            clients = pa.concat_tables([narrowed(to_table(probes), "clients"), clients])
        epsilon = self._accountant.epsilon(plan.round + 1) if self._accountant else None
        sent = pc.sum(clients["bytes_up"]).as_py() or 0, pc.sum(clients["bytes_down"]).as_py() or 0
        return round_record(event, sent, self.prepared.outline.header, seconds, epsilon), clients

    def _client_records(self, round: int, fates: Fates) -> pa.Table:
        prepared, n = self.prepared, fates.client
        budgets, reports, came = prepared.outline.budgets, fates.reports, fates.reported
        rows = prepared.allocator.active_in(round)[n]
        mean, deviation = moments_of(reports)

        def each(values: NDArray[Any], nothing: Any = 0) -> NDArray[Any]:
            """[C], of those who dropped out `nothing`."""
            if came.all():
                return values
            found = np.full(len(n), nothing, dtype=values.dtype)
            found[came] = values
            return found

        ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(each(reports.counts), dtype=np.int32)])
        measured, allocated = each(reports.measured_bytes), each(reports.allocated_bytes)
        return client_table(
            round,
            client=n,
            budget_class=pa.array(budgets.names, pa.string()).take(pa.array(budgets.class_of[n])),
            budget_bytes=budgets.bytes[n].astype(np.int64),
            predicted_bytes=prepared.allocator.instance.vram.of(rows).astype(np.int64),
            active_blocks=rows.sum(axis=1),
            samples=np.where(came, each(reports.examples), prepared.outline.samples[n].astype(np.int64)),
            loss=each(reports.loss, np.nan),
            scalar_mean=each(mean),
            scalar_std=each(deviation),
            scalars=pa.ListArray.from_arrays(pa.array(ends), pa.array(reports.values)),
            forwards=each(reports.block_evaluations),
            flops=each(reports.flops),
            backward_flops=each(reports.backward_flops),
            bytes_up=each(reports.upload),
            bytes_down=fates.download,
            bytes_bus=each(reports.bus),
            seconds=each(reports.seconds),
            status=pa.array(STATUSES, pa.string()).take(pa.array(fates.status)),
            virtual_seconds=pa.array(fates.seconds, from_pandas=True),
            lied=fates.lied,
            measured_bytes=pa.array(measured, mask=measured == 0),
            allocated_bytes=pa.array(allocated, mask=allocated == 0),
        )

    def close(self) -> None:
        """Put what there is on disk, and let go of the folder."""
        try:
            self.writer.flush()
        finally:
            try:
                self.ledger.close()
            finally:
                self.claim.release()

    def finish(
        self,
        placement: str,
        environment: dict[str, Any],
        digest: Callable[[], str] | None,
        seconds: float,
        interrupted: bool,
        stopped: str,
        report: Callable[[Path], object] | None = None,
        memory: Callable[[Plan], list[ClassMemory]] | None = None,
    ) -> Summary:
        """Close the files and write the summary, then the `report`, which is what people read; `stopped` says why a run
        ended early by itself. Whoever holds the model may be gone by now, so its `digest`, and what clients need of
        `memory` under the run's first plan, come after all else is on disk, and may fail; None: it is not asked."""
        if self.ledger.rounds < self.config.rounds:
            stopped = stopped or self.target.reached()
        try:
            self.writer.flush()
            self.ledger.close()
            summary = summarise(
                self.config,
                read_parts(self.folder),
                self.folder / LEDGER,
                placement=placement,
                model_sha256="",
                seconds=seconds + self._earlier_seconds,
                environment=environment,
                interrupted=interrupted,
                stopped=stopped,
                notes=self.notes,
            )
            summary.write(self.folder)
            try:
                summary.model_sha256 = digest() if digest else ""
                why = "nobody held it any more"
            except Exception as error:  # whatever a dead runtime may raise
                why = str(error).partition("\n")[0] or type(error).__name__
            if not summary.model_sha256:
                summary.notes.append(f"the model's digest is not known ({why}); replay the run to have it")
            if report is not None and memory is not None:
                summary.notes += self._keep_memory(memory)
            summary.write(self.folder)
            if report is not None:
                report(self.folder)
            return summary
        finally:
            self.close()


    def _keep_memory(self, memory: Callable[[Plan], list[ClassMemory]]) -> list[str]:
        """Write the memory table once a run, beside its first plan; what is to be said where that fails."""
        plans = self.prepared.allocator.plans
        if not plans or (self.folder / MEMORY).exists():
            return []
        try:
            write_memory(memory(plans[min(plans)]), self.folder)
        except Exception as error:  # whatever a dead runtime may raise
            return [f"what clients hold was not traced ({str(error).partition(chr(10))[0] or type(error).__name__})"]
        return []


def round_record(
    event: RoundDone, sent: tuple[int, int], header: Header, seconds: float, epsilon: float | None
) -> RoundRecord:
    """The record of a round in which its clients, probes for statistics included, `sent` so many bytes up and down."""
    plan, judged = event.plan, event.judged
    mean, deviation = moments(judged.counted.values.astype(np.float64))
    return RoundRecord(
        round=plan.round,
        loss=event.loss,
        lr=plan.lr,
        participants=len(judged.fates),
        bytes_up=sent[0],
        bytes_down=sent[1],
        seconds=seconds,
        step_norm=step_norm(event.step, [block.size for block in header.blocks]),
        residual=event.step.residual if isinstance(event.step, TensorStep) else None,
        scalar_mean=mean,
        scalar_std=deviation,
        reported=len(judged.counted),
        late=judged.count("late"),
        dropped=judged.count("dropped"),
        excluded=len(judged.fates) - judged.count("ok", "late", "dropped"),
        stale=len(judged.arrived),
        virtual_seconds=judged.now,
        epsilon=epsilon,
    )


def describe(plan: Plan) -> list[str]:
    """What the user may want to know of a plan."""
    blocks = plan.matrix.sum(axis=1)
    summary = f"{blocks.min()} to {blocks.max()} of {plan.matrix.shape[1]} blocks a client"
    return [f"allocation: {plan.name}, {summary}", *plan.messages]


def moments(scalars: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation; zeros for a method without scalars."""
    return (float(scalars.mean()), float(scalars.std())) if scalars.size else (0.0, 0.0)


def moments_of(reports: Reports) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the scalars of each, [C]; those who sent equally many go together."""
    mean, deviation = np.zeros(len(reports)), np.zeros(len(reports))
    for count in np.unique(reports.counts[reports.counts > 0]).tolist():
        alike = reports.counts == count
        scalars = scalars_of(reports.take(alike))
        mean[alike], deviation[alike] = scalars.mean(axis=1), scalars.std(axis=1)
    return mean, deviation


def probing(reports: Reports) -> Fates:
    """Of clients that probed for the allocation's statistics."""
    count = len(reports)
    status = np.full(count, NUMBER_OF["statistics"], dtype=np.int8)
    nothing = np.zeros(count, dtype=np.int64)
    return Fates(reports.client, status, nothing, np.full(count, np.nan), nothing.astype(np.bool_), reports)


def step_norm(step: Step, sizes: list[int]) -> float | None:
    """Expected length of a step, (η/P)·√(Σ d_l Σ_p c[l,p]²): directions of many dimensions are nearly orthogonal."""
    if isinstance(step, TensorStep):
        squares = [float(np.square(vector, dtype=np.float64).sum()) for vector in step.vectors.values()]
        return None if step.whole else math.sqrt(sum(squares))
    total = 0.0
    for block, size in enumerate(sizes):
        total += size * sum(coefficient**2 for _, coefficient in step.terms(0, block))
    return math.sqrt(total)
