"""A run and its folder: what training yields becomes ledger entries, records and a summary on disk."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zorba_ray.allocation import Plan
from zorba_ray.config.load import to_yaml
from zorba_ray.config.schema import Config
from zorba_ray.ledger import LedgerWriter, read_ledger, truncate_ledger
from zorba_ray.messages import Step, TensorStep, nothing_from
from zorba_ray.records.schema import ClientRecord, EvaluationRecord, RoundRecord
from zorba_ray.records.stream import FOLDER, RecordWriter, table, truncate
from zorba_ray.rounds.allocator import Allocated
from zorba_ray.rounds.loop import Backend, Evaluated, RoundDone, evaluated_after, train
from zorba_ray.runs.collapse import Collapse
from zorba_ray.runs.exposure import client_accuracy
from zorba_ray.runs.folder import CONFIG, LEDGER, refuse_used_folder
from zorba_ray.runs.plans import store
from zorba_ray.runs.prepared import Prepared
from zorba_ray.runs.recall import recall
from zorba_ray.runs.stop import Target
from zorba_ray.runs.summary import FILE as SUMMARY
from zorba_ray.runs.summary import Summary, read_summary, summarise
from zorba_ray.world.privacy import accountant_of
from zorba_ray.world.traffic import Wire, traffic_of
from zorba_ray.world.weights import weights_note
from zorba_ray.world.world import Fate, World


class Session:
    """Opens (or re-opens) the run folder, and writes as the rounds go by."""

    def __init__(self, config: Config, prepared: Prepared, folder: Path, resume: bool):
        self.config = config
        self.prepared = prepared
        self.folder = folder
        self.notes: list[str] = [*prepared.outline.notes]
        self._earlier_seconds = 0.0
        if resume:
            self._rewind()
            if (folder / SUMMARY).exists():
                self._earlier_seconds = read_summary(folder).seconds
        else:
            refuse_used_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CONFIG).write_text(to_yaml(config), encoding="utf-8")
            for round, plan in prepared.allocator.plans.items():
                store(Allocated(round, plan, prepared.allocator.given, []), folder)
        self.ledger = LedgerWriter(folder / LEDGER, prepared.outline.header)
        self.writer = RecordWriter(folder / FOLDER)
        entries = read_ledger(folder / LEDGER).entries
        self.steps: list[Step] = [entry.step for entry in entries]
        self._first_loss = next((entry.loss for entry in entries if math.isfinite(entry.loss)), None)
        self._statistics: list[ClientRecord] = []
        self.statuses: Counter[str] = Counter()  # of the clients' reports in this sitting
        records = table(folder)
        self._evaluated = frozenset(rounds_of(records, "evaluation"))
        self.target = Target(config.stop, records)
        self._collapse = Collapse(config.guard.collapse, prepared.outline.guess)
        for row in records.filter(pc.equal(records["kind"], "evaluation")).to_pylist():
            self._collapse.recall(row["accuracy"], row["loss"], row["examples"])
        sizes = [block.size for block in prepared.outline.header.blocks]
        wire = Wire(config.clients.count, traffic_of(config), sizes)
        self.world = World(config, prepared.outline.budgets, prepared.outline.samples, wire)
        self.notes += filter(None, [weights_note(config, prepared.outline.samples, prepared.outline.weights)])
        self._accountant = accountant_of(config)
        if self._accountant is not None:
            self.notes.append(f"privacy: δ = {config.privacy.delta:g}, {self._accountant.assumption}")
        recall(self.world, self.steps, records, prepared.allocator.active_in)

    def _rewind(self) -> None:
        """Go back to the last round of which both the ledger and the records are on disk; later ones are done again."""
        ledger = read_ledger(self.folder / LEDGER)
        if ledger.cut:
            self.notes.append(f"the ledger's torn end was removed ({ledger.cut})")
        rounds = max(rounds_of(table(self.folder), "round"), default=-1) + 1
        if rounds < len(ledger.entries):
            last = len(ledger.entries) - 1
            self.notes.append(f"the records of rounds {rounds} to {last} were lost; they are done again")
            truncate_ledger(self.folder / LEDGER, rounds)
        truncate(self.folder / FOLDER, min(rounds, len(ledger.entries)))

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
                store(event, self.folder)
                probed = [Fate(report.client, "statistics", report, 0, None, False) for report in event.reports]
                self._statistics = self._client_records(event.round, probed)
                yield from describe(event.plan)
            elif isinstance(event, Evaluated):
                yield self._evaluation(event)
                if said := self._collapse.seen(event.rounds, event.accuracy, event.loss, event.examples):
                    self.notes.append(said)
                    yield said
            else:
                self.steps.append(event.step)
                record, clients = self._records(event, time.perf_counter() - started)
                self.writer.add([record, *clients])
                self.target.round(record, clients)
                self.statuses.update(client.status for client in clients)
                yield record
            if self.target.reached():
                yield from self._last_evaluation(backend)
                return
            started = time.perf_counter()

    def _evaluation(self, event: Evaluated) -> EvaluationRecord:
        exposure = self.prepared.outline.exposure
        apart = client_accuracy(exposure, event.right) if exposure is not None else None
        mean, worst = apart if apart is not None else (None, None)
        evaluation = EvaluationRecord(event.rounds, event.accuracy, event.loss, event.examples, mean, worst)
        self.writer.add([evaluation])
        self.target.evaluation(evaluation)
        self._evaluated |= {event.rounds}
        return evaluation

    def _last_evaluation(self, backend: Backend) -> Iterator[EvaluationRecord]:
        """Of a run that has reached a target: the model that it ends with is evaluated, as any other run's is."""
        if self.ledger.rounds not in self._evaluated:
            yield self._evaluation(evaluated_after(self.ledger.rounds, backend.evaluate()))

    def _records(self, event: RoundDone, seconds: float) -> tuple[RoundRecord, list[ClientRecord]]:
        """A round's records. Probes for statistics, if any, count with the round that they precede."""
        plan, judged = event.plan, event.judged
        probed, self._statistics = self._statistics, []
        clients = probed + self._client_records(plan.round, judged.fates)
        scalars = np.concatenate([np.zeros(0), *(report.scalars for report in judged.counted)])
        record = RoundRecord(
            round=plan.round,
            loss=event.loss,
            lr=plan.lr,
            participants=len(judged.fates),
            bytes_up=sum(client.bytes_up for client in clients),
            bytes_down=sum(client.bytes_down for client in clients),
            seconds=seconds,
            step_norm=step_norm(event.step, [block.size for block in self.prepared.outline.header.blocks]),
            residual=event.step.residual if isinstance(event.step, TensorStep) else None,
            scalar_mean=moments(scalars)[0],
            scalar_std=moments(scalars)[1],
            reported=len(judged.counted),
            late=judged.count("late"),
            dropped=judged.count("dropped"),
            excluded=len(judged.fates) - judged.count("ok", "late", "dropped"),
            stale=len(judged.arrived),
            virtual_seconds=judged.now,
            epsilon=self._accountant.epsilon(plan.round + 1) if self._accountant else None,
        )
        return record, clients

    def _client_records(self, round: int, fates: Sequence[Fate]) -> list[ClientRecord]:
        prepared = self.prepared
        active = prepared.allocator.active_in(round)
        used = prepared.allocator.instance.vram.of(active)
        records = []
        for fate in fates:
            n = fate.client
            report = fate.report or nothing_from(n, fate.status, int(prepared.outline.samples[n]))
            mean, deviation = moments(report.scalars)
            records.append(
                ClientRecord(
                    round=round,
                    client=n,
                    budget_class=prepared.outline.budgets.names[prepared.outline.budgets.class_of[n]],
                    budget_bytes=int(prepared.outline.budgets.bytes[n]),
                    predicted_bytes=int(used[n]),
                    active_blocks=int(active[n].sum()),
                    samples=report.examples,
                    loss=report.loss,
                    scalar_mean=mean,
                    scalar_std=deviation,
                    scalars=report.scalars.tolist(),
                    forwards=report.block_evaluations,
                    flops=report.flops,
                    backward_flops=report.backward_flops,
                    bytes_up=report.upload,
                    bytes_down=fate.download,
                    seconds=report.seconds,
                    status=fate.status,
                    virtual_seconds=fate.seconds,
                    lied=fate.lied,
                    measured_bytes=report.measured_bytes or None,
                )
            )
        return records

    def finish(
        self,
        placement: str,
        environment: dict[str, Any],
        model_sha256: str,
        seconds: float,
        interrupted: bool,
        stopped: str,
    ) -> Summary:
        """Close the files and write the summary; `stopped` says why a run ended early by itself."""
        if self.ledger.rounds < self.config.rounds:
            stopped = stopped or self.target.reached()
        self.ledger.close()
        self.writer.flush()
        summary = summarise(
            self.config,
            table(self.folder),
            self.folder / LEDGER,
            placement=placement,
            model_sha256=model_sha256,
            seconds=seconds + self._earlier_seconds,
            environment=environment,
            interrupted=interrupted,
            stopped=stopped,
            notes=self.notes,
        )
        summary.write(self.folder)
        return summary


def describe(plan: Plan) -> list[str]:
    """What the user may want to know of a plan."""
    blocks = plan.matrix.sum(axis=1)
    summary = f"{blocks.min()} to {blocks.max()} of {plan.matrix.shape[1]} blocks a client, bound {plan.bound:.4g}"
    return [f"allocation: {plan.name}, {summary}", *plan.messages]


def rounds_of(records: pa.Table, kind: str) -> list[int]:
    """The rounds of all records of a kind."""
    found: list[int] = records.filter(pc.equal(records["kind"], kind))["round"].to_pylist()
    return found


def moments(scalars: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation; zeros for a method without scalars."""
    return (float(scalars.mean()), float(scalars.std())) if scalars.size else (0.0, 0.0)


def step_norm(step: Step, sizes: list[int]) -> float | None:
    """Expected length of a step, (η/P)·√(Σ d_l Σ_p c[l,p]²): directions of many dimensions are nearly orthogonal."""
    if isinstance(step, TensorStep):
        squares = [float(np.square(vector, dtype=np.float64).sum()) for vector in step.vectors.values()]
        return None if step.whole else math.sqrt(sum(squares))
    total = 0.0
    for block, size in enumerate(sizes):
        total += size * sum(coefficient**2 for _, coefficient in step.terms(0, block))
    return math.sqrt(total)
