"""The targets at which a run is done before its last round, judged by what is recorded, so that a resumed run stops
where it would have stopped undisturbed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from zorba_ray.config.schema import StopConfig
from zorba_ray.config.units import format_bytes, parse_bytes
from zorba_ray.config.words import duration, flops, percent
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.runs.past import Past


class Target:
    """What a run has come to, beside what it is to come to. Told of every record; a resumed one reads the earlier."""

    def __init__(self, stop: StopConfig, earlier: Past):
        self.stop = stop
        self.bytes = 0
        self.flops = 0.0
        self.seconds = 0.0
        self.accuracy: float | None = None  # of the last evaluation
        self.loss: float | None = None
        self._recall(earlier)

    def _recall(self, earlier: Past) -> None:
        for row in earlier.rounds.sort_by("round").to_pylist():
            self._spend(row["bytes_up"] + row["bytes_down"], row["virtual_seconds"])
        for row in earlier.evaluations.sort_by("round").to_pylist()[-1:]:
            self.accuracy, self.loss = row["accuracy"], row["loss"]
        if self.stop.flops:
            rounds, forward, backward = (column.to_numpy() for column in earlier.costs.columns)
            order = np.argsort(rounds, kind="stable")
            for here in np.split(order, np.flatnonzero(np.diff(rounds[order])) + 1):
                self._compute(forward[here].tolist(), backward[here].tolist())

    def round(self, record: RoundRecord, forward: pa.ChunkedArray, backward: pa.ChunkedArray) -> None:
        """A round, and the FLOPs of its clients."""
        self._spend(record.bytes_up + record.bytes_down, record.virtual_seconds)
        if self.stop.flops:
            self._compute(forward.to_pylist(), backward.to_pylist())

    def _spend(self, count: int, now: float | None) -> None:
        self.bytes += count
        self.seconds = now or 0.0

    def _compute(self, forward: Sequence[float], backward: Sequence[float]) -> None:
        """One round's, in the order of its records: the same sum, to the bit, from the records."""
        for count in (*forward, *backward):
            self.flops += count

    def evaluation(self, record: EvaluationRecord) -> None:
        self.accuracy, self.loss = record.accuracy, record.loss

    def reached(self) -> str:
        """Which target, and by how much; empty: none yet."""
        stop = self.stop
        if stop.accuracy and self.accuracy is not None and self.accuracy >= stop.accuracy:
            return f"test accuracy {percent(self.accuracy)} has reached stop.accuracy, {percent(stop.accuracy)}"
        if stop.loss and self.loss is not None and self.loss <= stop.loss:
            return f"test loss {self.loss:.4g} has reached stop.loss, {stop.loss:g}"
        if stop.bytes and self.bytes >= parse_bytes(stop.bytes):
            return f"{format_bytes(self.bytes)} sent have reached stop.bytes, {stop.bytes}"
        if stop.flops and self.flops >= stop.flops:
            return f"{flops(self.flops)} computed have reached stop.flops, {flops(stop.flops)}"
        if stop.seconds and self.seconds >= stop.seconds:
            return f"{duration(self.seconds)} on the virtual clock have reached stop.seconds, {duration(stop.seconds)}"
        return ""
