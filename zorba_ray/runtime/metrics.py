"""What a run tells Prometheus while it goes: Ray exports it on every node (/metrics), tagged with the run's name.

A handful of calls into Ray's recorder, some 20 µs a round; the agents pick the values up every few seconds.
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Mapping
from pathlib import Path

from ray.util.metrics import Counter, Gauge, Histogram

from zorba_ray.records.schema import EvaluationRecord, RoundRecord

SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]  # upper ends of the histogram's bins
PAGE = os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """The driver's: told of every record. Totals are those of this sitting, as Prometheus expects of counters."""

    def __init__(self, run: str):
        tags = ("run",)
        self._rounds = Counter("zorba_rounds", "Rounds done", tags)
        self._seconds = Histogram("zorba_round_seconds", "Wall-clock seconds of a round", SECONDS, tags)
        self._up = Counter("zorba_bytes_up", "Bytes that clients sent", tags)
        self._down = Counter("zorba_bytes_down", "Bytes that clients received", tags)
        self._reports = Counter("zorba_client_reports", "Clients' reports by status", ("run", "status"))
        self._failures = Counter("zorba_actor_failures", "Actors that died and were replaced", tags)
        self._loss = Gauge("zorba_loss", "Training loss of the last round", tags)
        self._test_loss = Gauge("zorba_test_loss", "Loss on the test data", tags)
        self._accuracy = Gauge("zorba_test_accuracy", "Accuracy on the test data, 0 to 1", tags)
        self._memory = Memory(run, "driver")
        self._tags = {"run": run}
        self._statuses: Tally[str] = Tally()
        self._faults = 0

    def observe(self, record: RoundRecord | EvaluationRecord | str, statuses: Mapping[str, int], faults: int) -> None:
        """After each thing that a run yields. `statuses` and `faults` are the totals so far."""
        tags = self._tags
        if isinstance(record, EvaluationRecord):
            self._accuracy.set(record.accuracy, tags)
            self._test_loss.set(record.loss, tags)
        elif isinstance(record, RoundRecord):
            self._rounds.inc(1, tags)
            self._seconds.observe(record.seconds, tags)
            self._loss.set(record.loss, tags)
            add(self._up, record.bytes_up, tags)
            add(self._down, record.bytes_down, tags)
            for status, total in statuses.items():
                add(self._reports, total - self._statuses[status], {**tags, "status": status})
                self._statuses[status] = total
            add(self._failures, faults - self._faults, tags)
            self._faults = faults
            self._memory.observe()


class Memory:
    """Resident memory of this process, as that of an actor of the run."""

    def __init__(self, run: str, actor: str):
        self._gauge = Gauge("zorba_resident_bytes", "Resident memory of an actor's process", ("run", "actor"))
        self._tags = {"run": run, "actor": actor}

    def observe(self) -> None:
        self._gauge.set(resident_bytes(), self._tags)


def add(counter: Counter, amount: float, tags: dict[str, str]) -> None:
    """Ray refuses to count nothing."""
    if amount > 0:
        counter.inc(amount, tags)


def resident_bytes() -> int:
    """Of this process; 0 where the system does not tell (it is no Linux)."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE
    except OSError:
        return 0
