"""A run and its folder: what training yields becomes ledger entries, records and a summary on disk."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from zorba_ray import __version__
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.config.schema import Config
from zorba_ray.ledger import LedgerWriter, Step, ledger_sha256, read_ledger, truncate_ledger
from zorba_ray.ledger.step import SharedStep
from zorba_ray.results.schema import ClientRecord, EvaluationRecord, Record, RoundRecord
from zorba_ray.results.stream import RecordWriter, last_round, table, truncate
from zorba_ray.results.summary import Summary, write_summary
from zorba_ray.rounds.accounting import SCALAR, Wire
from zorba_ray.rounds.loop import Backend, Evaluated, RoundDone, train
from zorba_ray.rounds.plan import plan_round
from zorba_ray.rounds.prepare import Prepared


class Session:
    """Opens (or re-opens) the run folder, and writes as the rounds go by."""

    def __init__(self, config: Config, prepared: Prepared, folder: Path, resume: bool):
        self.config = config
        self.prepared = prepared
        self.folder = folder
        self.records = folder / "records"
        self.started = time.perf_counter()
        self.notes: list[str] = []
        if resume:
            self._rewind()
        else:
            begin_folder(folder)
            (folder / "config.yaml").write_text(to_yaml(config))
            (folder / "allocation.json").write_text(json.dumps(prepared.plan.to_json()))
        self.ledger = LedgerWriter(folder / "ledger.jsonl", prepared.base.header)
        self.writer = RecordWriter(self.records)
        entries = read_ledger(folder / "ledger.jsonl").entries
        self.steps: list[Step] = [entry.step for entry in entries]
        self._first_loss = entries[0].loss if entries else None
        self._wire = Wire(config.clients.count)
        for step in self.steps:
            self._wire.round(step, plan_round(config, step.round).participants)

    def _rewind(self) -> None:
        """Go back to the last round of which both the ledger and the records are on disk."""
        path = self.folder / "ledger.jsonl"
        ledger = read_ledger(path)
        if ledger.cut:
            self.notes.append(f"the ledger's torn end was removed ({ledger.cut})")
        rounds = min(len(ledger.entries), last_round(self.records) + 1)
        if rounds < len(ledger.entries):
            self.notes.append(f"records of rounds {rounds} to {len(ledger.entries) - 1} were lost; they are done again")
            truncate_ledger(path, rounds)
        truncate(self.records, rounds)

    def events(self, backend: Backend) -> Iterator[RoundRecord | EvaluationRecord]:
        """Train from where the ledger ends; everything is handed to the disk before it is yielded."""
        started = time.perf_counter()
        for event in train(
            self.config, backend, self.ledger, self.prepared.plan.matrix, self.prepared.weights, self._first_loss
        ):
            if isinstance(event, Evaluated):
                evaluation = EvaluationRecord(event.rounds, event.accuracy, event.loss, event.examples)
                self.writer.append([evaluation])
                yield evaluation
            else:
                seconds, started = time.perf_counter() - started, time.perf_counter()
                record, clients = self._records(event, seconds)
                self.writer.append([record, *clients])
                yield record

    def _records(self, event: RoundDone, seconds: float) -> tuple[RoundRecord, list[Record]]:
        plan, prepared = event.plan, self.prepared
        down = self._wire.round(event.step, plan.participants)
        scalars = np.stack([report.scalars for report in event.reports]).astype(np.float64)
        clients: list[Record] = [
            ClientRecord(
                round=plan.round,
                client=report.client,
                budget_class=prepared.budgets.names[prepared.budgets.class_of[report.client]],
                budget_bytes=int(prepared.budgets.bytes[report.client]),
                predicted_bytes=int(prepared.plan.vram[report.client]),
                active_blocks=int(prepared.plan.matrix[report.client].sum()),
                samples=report.examples,
                loss=report.loss,
                scalar_mean=float(report.scalars.mean()),
                scalar_std=float(report.scalars.std()),
                scalars=report.scalars.tolist(),
                forwards=report.block_evaluations,
                flops=report.flops,
                bytes_up=report.scalars.size * SCALAR,
                bytes_down=int(received),
                seconds=report.seconds,
                status="ok",
            )
            for report, received in zip(event.reports, down, strict=True)
        ]
        record = RoundRecord(
            round=plan.round,
            loss=event.loss,
            lr=plan.lr,
            participants=len(plan.participants),
            bytes_up=scalars.size * SCALAR,
            bytes_down=int(down.sum()),
            seconds=seconds,
            step_norm=step_norm(event.step, [block.size for block in prepared.base.header.blocks]),
            scalar_mean=float(scalars.mean()),
            scalar_std=float(scalars.std()),
        )
        return record, clients

    def finish(self, status: str, model_sha256: str, environment: dict[str, str]) -> Summary:
        """Close the files and write the summary. `status` is "done", "interrupted", or what went wrong."""
        self.ledger.close()
        self.writer.close()
        summary = summarise(self.config, self.folder, status, model_sha256, self.prepared.wall_seconds(self.folder, self.started), environment)
        write_summary(self.folder, summary)
        return summary
