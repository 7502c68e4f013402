"""tracking/round.csv and tracking/evaluation.csv: one line each time, whole at once; `tail -f` shows a run."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from zorba_ray.ledger.whole import whole_file
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.tracking.tracker import Begun

COLUMNS = {
    kind.kind: ["rounds", *(field.name for field in dataclasses.fields(kind) if field.name != "round")]
    for kind in (RoundRecord, EvaluationRecord)
}


class Csv:
    """A file for each kind of record; `rounds` is how many were done by then, the others are the records' columns."""

    def __init__(self, begun: Begun):
        self._paths = {kind: begun.own(f"{kind}.csv") for kind in COLUMNS}
        for kind, path in self._paths.items():
            kept = [row for row in rows_of(path) if int(row["rounds"]) <= begun.rounds]
            with whole_file(path) as file:
                file.write(lines([COLUMNS[kind], *([row[name] for name in COLUMNS[kind]] for row in kept)]))

    def log(self, rounds: int, values: Mapping[str, float]) -> None:
        kind = next(iter(values)).partition("/")[0]
        row = [rounds, *(values.get(f"{kind}/{name}", "") for name in COLUMNS[kind][1:])]
        with self._paths[kind].open("ab") as file:
            file.write(lines([row]))

    def close(self) -> None:
        pass


def rows_of(path: Path) -> list[dict[str, str]]:
    """Whole rows of an earlier sitting."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def open(begun: Begun) -> Csv:
    return Csv(begun)
