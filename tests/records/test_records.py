from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.records.schema import SCHEMA, ClientRecord, EvaluationRecord, Record, RoundRecord, to_records, to_table
from zorba_ray.records.stream import FOLDER, RecordWriter, dataset, read_parts, table, truncate

REAL = st.floats(allow_nan=False)
COUNT = st.integers(0, 2**50)
ROUND = st.integers(0, 2**24)
RECORDS = st.one_of(
    st.builds(RoundRecord, ROUND, REAL, REAL, st.integers(0, 2**24), COUNT, COUNT, REAL, REAL, REAL, REAL),
    st.builds(EvaluationRecord, ROUND, REAL, REAL, COUNT),
    st.builds(
        ClientRecord, ROUND, ROUND, st.text(), COUNT, COUNT, st.integers(0, 999), st.integers(0, 999), REAL,
        st.lists(st.floats(width=32, allow_nan=False), max_size=5), REAL, REAL, COUNT, REAL, COUNT, COUNT, REAL,
        st.text(),
    ),
)  # fmt: skip


def round_record(t: int) -> RoundRecord:
    return RoundRecord(t, 1.0 - t / 100, 0.1, 2, 16, 32, 0.5, 0.1, 0.0, 1.0)


def client_record(t: int, client: int) -> ClientRecord:
    return ClientRecord(t, client, "small", 100, 90, 2, 8, 0.5, [0.25, -0.5], -0.125, 0.375, 12, 1e6, 8, 16, 0.1, "ok")


def write_rounds(run: Path, which: range, **every: float) -> None:
    with RecordWriter(run / FOLDER, **every) as writer:  # type: ignore[arg-type]
        for t in which:
            if t == 0:
                writer.add([EvaluationRecord(0, 0.5, 0.7, 100)])
            writer.add([round_record(t), client_record(t, 0), client_record(t, 1)])
            if t % 3 == 2:
                writer.add([EvaluationRecord(t + 1, 0.6, 0.6, 100)])


@settings(max_examples=50)
@given(st.lists(RECORDS, max_size=8))
def test_records_come_back_as_they_were(records: list[Record]) -> None:
    assert to_records(to_table(records)) == records


def test_every_column_belongs_to_a_kind_and_every_field_has_a_column() -> None:
    fields = {name for kind in (RoundRecord, ClientRecord, EvaluationRecord) for name in kind.__dataclass_fields__}
    assert fields - {"kind"} == set(SCHEMA.names) - {"kind"}


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / FOLDER) as writer:
        writer.add([EvaluationRecord(0, 0.0, math.inf, 1), EvaluationRecord(1, 0.0, math.nan, 1)])
    first, second = to_records(table(tmp_path))
    assert first.loss == math.inf and math.isnan(second.loss)


@pytest.mark.parametrize("rounds", [1, 4, 1000])
def test_parts_add_up_to_all_rows_in_order(tmp_path: Path, rounds: int) -> None:
    write_rounds(tmp_path, range(10), rounds=rounds)
    together = table(tmp_path)
    assert together.schema == SCHEMA
    assert [r.round for r in to_records(together) if r.kind == "round"] == list(range(10))
    parts = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert parts == [f"part-{i:05d}.parquet" for i in range(len(parts))]
    assert len(parts) == len(list(read_parts(tmp_path))) == -(-10 // rounds)


def test_time_alone_brings_rows_to_disk(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / FOLDER, rounds=1000, seconds=0.0)
    writer.add([round_record(0)])
    assert table(tmp_path).num_rows == 1


def test_an_empty_run_has_an_empty_table_of_the_same_schema(tmp_path: Path) -> None:
    assert table(tmp_path).schema == SCHEMA and table(tmp_path).num_rows == 0


def test_a_torn_file_is_neither_read_nor_kept(tmp_path: Path) -> None:
    write_rounds(tmp_path, range(3))
    torn = tmp_path / FOLDER / ".part-00007.parquet.tmp"
    torn.write_bytes(b"PAR1 half")
    assert table(tmp_path).num_rows == pq.read_table(tmp_path / FOLDER).num_rows == 3 * 3 + 2
    RecordWriter(tmp_path / FOLDER)
    assert not torn.exists()


@pytest.mark.parametrize("cut", [0, 1, 4, 6, 9, 10, 99])
@pytest.mark.parametrize("rounds", [1, 4, 1000])
def test_resuming_after_truncation_gives_the_rows_of_a_run_never_interrupted(
    tmp_path: Path, cut: int, rounds: int
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write_rounds(whole, range(10))
    write_rounds(resumed, range(10), rounds=rounds)
    truncate(resumed / FOLDER, cut)
    left = to_records(table(resumed))
    assert max((r.round for r in left if r.kind != "evaluation"), default=-1) == min(cut, 10) - 1
    assert max((r.round for r in left if r.kind == "evaluation"), default=0) == (min(cut, 10) // 3) * 3
    write_rounds(resumed, range(cut, 10), rounds=rounds)
    assert to_records(table(resumed)) == to_records(table(whole))


@pytest.mark.ray
@pytest.mark.slow
def test_ray_data_reads_the_whole_folder(tmp_path: Path) -> None:
    import ray

    write_rounds(tmp_path, range(5), rounds=2)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        for found in (dataset(tmp_path), ray.data.read_parquet(str(tmp_path / FOLDER))):
            assert found.count() == table(tmp_path).num_rows
            assert sorted(row["round"] for row in found.take_all() if row["kind"] == "round") == list(range(5))
    finally:
        ray.shutdown()
