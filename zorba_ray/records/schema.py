"""The records of a run: rows of three kinds, each with a Parquet schema of its own, and one that holds them all.

Where all are in one table, a column that a kind does not have is null in its rows. Rounds are counted from 0 as in the
ledger; an evaluation's `round` is the number of rounds done before it, so 0 is the untuned model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class RoundRecord:
    """One round of the whole federation."""

    kind: ClassVar[str] = "round"
    round: int
    loss: float  # the participants' losses, averaged with their weights
    lr: float
    participants: int  # chosen
    bytes_up: int  # all participants together
    bytes_down: int
    seconds: float
    step_norm: float | None  # length of the step; None where the step sets weights anew
    scalar_mean: float
    scalar_std: float
    reported: int = 0  # participants whose reports made the step
    late: int = 0  # ... whose reports came too late for it
    dropped: int = 0  # ... who downloaded and never reported
    excluded: int = 0  # ... whose reports were left out
    stale: int = 0  # late reports of earlier rounds in the step
    virtual_seconds: float | None = None  # on the simulated fleet, from the run's beginning to this round's end
    epsilon: float | None = None  # privacy spent so far, where noise is added
    residual: float | None = None  # share of the adapters' mean product that their rank could not hold


@dataclass(frozen=True)
class ClientRecord:
    """What one client did in one round, and what it cost."""

    kind: ClassVar[str] = "client"
    round: int
    client: int
    budget_class: str
    budget_bytes: int
    predicted_bytes: int  # VRAM by the allocator's model
    active_blocks: int
    samples: int  # examples in its mini-batch
    loss: float
    scalars: list[float]
    scalar_mean: float
    scalar_std: float
    forwards: int  # block evaluations
    flops: float
    bytes_up: int
    bytes_down: int  # with what it had missed
    seconds: float
    status: str  # ok | late | dropped | nan | outlier | out_of_memory | lost | statistics (a probe for the allocation)
    virtual_seconds: float | None = None  # of its round on the simulated fleet; None: no such clock, or it dropped out
    backward_flops: float = 0.0  # of training with gradients
    lied: bool = False  # the simulated world knows; the server may not
    bytes_bus: int = 0  # between its device and host memory, if it is alone there; the mini-batch left out
    measured_bytes: int | None = None  # VRAM that a client alone on its share of a GPU reserved; None: not measured
    allocated_bytes: int | None = None  # and how much of it was allocated


@dataclass(frozen=True)
class EvaluationRecord:
    """Accuracy and mean loss on the test data after `round` rounds."""

    kind: ClassVar[str] = "evaluation"
    round: int
    accuracy: float  # 0 to 1
    loss: float
    examples: int
    client_accuracy: float | None = None  # mean over the clients, each on test data like its own; see rounds.exposure
    client_accuracy_worst: float | None = None  # mean over the tenth of them with the lowest
    score: float | None = None  # of generated answers: F1 or Rouge-L; their accuracy is that of exact matches


Record = RoundRecord | ClientRecord | EvaluationRecord
KINDS: tuple[type[Record], ...] = (RoundRecord, ClientRecord, EvaluationRecord)

SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        ("client", pa.int32()),
        ("budget_class", pa.string()),
        ("budget_bytes", pa.int64()),
        ("predicted_bytes", pa.int64()),
        ("measured_bytes", pa.int64()),
        ("allocated_bytes", pa.int64()),
        ("active_blocks", pa.int32()),
        ("samples", pa.int32()),
        ("loss", pa.float64()),
        ("lr", pa.float64()),
        ("step_norm", pa.float64()),
        ("scalars", pa.list_(pa.float32())),
        ("scalar_mean", pa.float64()),
        ("scalar_std", pa.float64()),
        ("participants", pa.int32()),
        ("reported", pa.int32()),
        ("late", pa.int32()),
        ("dropped", pa.int32()),
        ("excluded", pa.int32()),
        ("stale", pa.int32()),
        ("virtual_seconds", pa.float64()),
        ("epsilon", pa.float64()),
        ("residual", pa.float64()),
        ("forwards", pa.int64()),
        ("flops", pa.float64()),
        ("backward_flops", pa.float64()),
        ("bytes_up", pa.int64()),
        ("bytes_down", pa.int64()),
        ("bytes_bus", pa.int64()),
        ("seconds", pa.float64()),
        ("accuracy", pa.float64()),
        ("client_accuracy", pa.float64()),
        ("client_accuracy_worst", pa.float64()),
        ("examples", pa.int64()),
        ("status", pa.string()),
        ("lied", pa.bool_()),
        ("score", pa.float64()),
    ]
)


KIND_OF: dict[str, type[Record]] = {  # by what its files are called, in the order in which they are written
    "clients": ClientRecord, "evaluations": EvaluationRecord, "rounds": RoundRecord,
}  # fmt: skip
VERSION = 2  # of the layout on disk, in the metadata of every file; 1 had all kinds in one file
MARK = b"zorba_ray_records"
UNITS = {
    **dict.fromkeys(("budget_bytes", "predicted_bytes", "measured_bytes", "allocated_bytes"), "B"),
    **dict.fromkeys(("bytes_up", "bytes_down", "bytes_bus"), "B"),
    **dict.fromkeys(("flops", "backward_flops"), "FLOP"),
    **dict.fromkeys(("loss",), "nat"),
    **dict.fromkeys(("seconds", "virtual_seconds"), "s"),
}  # all others are names, numbers of things, or shares


def schema_of(kind: str) -> pa.Schema:
    """Of a kind's files: its record's fields, with the units in the metadata of each column."""
    fields = [SCHEMA.field(field.name) for field in dataclasses.fields(KIND_OF[kind])]
    units = [field.with_metadata({"unit": UNITS[field.name]}) if field.name in UNITS else field for field in fields]
    return pa.schema(units, metadata={MARK: str(VERSION)})


def widened(table: pa.Table, kind: str) -> pa.Table:
    """A kind's rows among all others: with the column `kind`, and nulls where it has no column."""
    columns = {name: table[name] for name in table.column_names}
    columns["kind"] = pa.repeat(KIND_OF[kind].kind, table.num_rows)
    arrays = [columns[f.name] if f.name in columns else pa.nulls(table.num_rows, f.type) for f in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def narrowed(table: pa.Table, kind: str) -> pa.Table:
    """Of a table with all kinds, the rows of one, as its files have them."""
    schema = schema_of(kind)
    rows = table.filter(pc.equal(table["kind"], KIND_OF[kind].kind))
    return rows.select(schema.names).cast(schema)


def to_table(records: Iterable[Record]) -> pa.Table:
    """The records as one table, in their order."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for record in records:
        row = {"kind": record.kind} | {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        for name, column in columns.items():
            column.append(row.get(name))
    return pa.table(columns, schema=SCHEMA)


def client_table(round: int, **columns: Any) -> pa.Table:
    """Client records of a round from arrays [C], named as in `ClientRecord`, as their files have them."""
    columns["round"] = np.full(len(columns["client"]), round)
    schema = schema_of("clients")
    return pa.Table.from_arrays(
        [
            pa.array(column, field.type) if isinstance(column, np.ndarray) else column.cast(field.type)
            for column, field in ((columns[field.name], field) for field in schema)
        ],
        schema=schema,
    )


def to_records(table: pa.Table) -> list[Record]:
    """The rows of a table as records again."""
    kinds = {kind.kind: kind for kind in KINDS}
    records = []
    for row in table.to_pylist():
        kind = kinds[row["kind"]]
        records.append(kind(**{field.name: row[field.name] for field in dataclasses.fields(kind)}))
    return records
