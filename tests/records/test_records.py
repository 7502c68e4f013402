from __future__ import annotations

import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.records import stream
from zorba_ray.records.schema import (
    KIND_OF,
    SCHEMA,
    UNITS,
    ClientRecord,
    EvaluationRecord,
    Record,
    RoundRecord,
    narrowed,
    schema_of,
    to_records,
    to_table,
    widened,
)
from zorba_ray.records.stream import (
    FOLDER,
    RecordWriter,
    parts,
    parts_in,
    read_part,
    read_parts,
    table,
    truncate,
    write_part,
)

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
    assert isinstance(first, EvaluationRecord) and isinstance(second, EvaluationRecord)
    assert first.loss == math.inf and math.isnan(second.loss)


@given(st.lists(RECORDS, max_size=8))
def test_a_kinds_rows_are_the_same_among_all_and_alone(records: list[Record]) -> None:
    together = to_table(records)
    for kind, record in KIND_OF.items():
        alone = narrowed(together, kind)
        assert alone.schema.equals(schema_of(kind), check_metadata=True)
        assert to_records(widened(alone, kind)) == [each for each in records if isinstance(each, record)]


def test_the_page_lists_every_column_with_its_unit() -> None:
    page = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
    for kind in KIND_OF:
        rows = page.partition(f"**{kind}**")[2].partition("\n**")[0].splitlines()
        listed = [[cell.strip() for cell in row.split("|")[1:4]] for row in rows if row.startswith("| `")]
        wanted = [[f"`{each.name}`", re.sub(r"\w+: ", "", str(each.type)), UNITS.get(each.name, "")]
                  for each in schema_of(kind)]  # fmt: skip
        assert listed == wanted


def test_units_are_those_of_columns_and_lie_in_the_files(tmp_path: Path) -> None:
    assert set(UNITS) <= set(SCHEMA.names)
    write_rounds(tmp_path, range(3))
    for part in parts(tmp_path):
        found = pq.read_schema(part.path)
        assert found.metadata[b"zorba_ray_records"] == b"2"
        units = {name: (found.field(name).metadata or {}).get(b"unit") for name in found.names}
        assert {name: unit.decode() for name, unit in units.items() if unit} == {
            name: unit for name, unit in UNITS.items() if name in found.names
        }


@pytest.mark.parametrize("rounds", [1, 4, 1000])
def test_parts_add_up_to_all_rows_in_order(tmp_path: Path, rounds: int) -> None:
    write_rounds(tmp_path, range(10), rounds=rounds)
    together = table(tmp_path)
    assert together.schema == SCHEMA
    assert [r.round for r in to_records(together) if r.kind == "round"] == list(range(10))
    for kind in ("rounds", "clients"):
        spans = [(part.first, part.last) for part in parts(tmp_path) if part.kind == kind]
        assert spans == [(t, min(t + rounds, 10) - 1) for t in range(0, 10, rounds)]
        assert all(f"kind={kind}/rounds={part.first:06d}-{part.last:06d}/" in part.name for part in parts(tmp_path)
                   if part.kind == kind)  # fmt: skip


@pytest.mark.parametrize("sittings", [1, 3])
def test_many_small_files_become_few_and_nothing_is_lost(
    tmp_path: Path, sittings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MANY", 5)
    for sitting in range(sittings):
        write_rounds(tmp_path, range(7 * sitting, 7 * (sitting + 1)), rounds=1)
    count = 7 * sittings
    assert [r.round for r in to_records(table(tmp_path)) if r.kind == "round"] == list(range(count))
    assert len([part for part in parts(tmp_path) if part.kind == "rounds"]) <= stream.MANY
    assert len(list((tmp_path / FOLDER / "kind=rounds").iterdir())) <= stream.MANY


def test_a_large_file_is_left_alone_and_parts_the_small_ones(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / FOLDER, rounds=1, seconds=1e9, rows=5) as writer:
        for t in range(6):
            writer.add([round_record(t), *(client_record(t, n) for n in range(9 if t == 2 else 1))])
    spans = [(part.first, part.last) for part in parts(tmp_path) if part.kind == "clients"]
    assert spans == [(0, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    assert len(to_records(table(tmp_path))) == 6 + 5 + 9


def test_what_a_joined_file_holds_is_read_once_and_goes(tmp_path: Path) -> None:
    """As a writer leaves it that died between joining files and removing them."""
    write_rounds(tmp_path, range(6), rounds=2)
    small = parts_in(tmp_path / FOLDER, "rounds")
    rows = narrowed(table(tmp_path), "rounds")
    write_part(tmp_path / FOLDER, "rounds", rows)
    assert len(list((tmp_path / FOLDER / "kind=rounds").iterdir())) == len(small) + 1
    assert [(part.first, part.last) for part in parts_in(tmp_path / FOLDER, "rounds")] == [(0, 5)]
    assert narrowed(table(tmp_path), "rounds").equals(rows)
    RecordWriter(tmp_path / FOLDER)
    assert len(list((tmp_path / FOLDER / "kind=rounds").iterdir())) == 1


def test_files_that_are_joined_while_they_are_read_are_read_once(tmp_path: Path) -> None:
    """A report of a run that goes on: its writer joins small files after the reader has listed them."""
    write_rounds(tmp_path, range(6), rounds=1)
    whole = [narrowed(table(tmp_path), kind) for kind in KIND_OF]
    seen = []
    for number, part in enumerate(read_parts(tmp_path)):
        seen.append(part)
        if number == 2:  # within the clients' files
            for kind in KIND_OF:
                stream.join(tmp_path / FOLDER, parts_in(tmp_path / FOLDER, kind))
    assert len(parts(tmp_path)) == len(KIND_OF)
    assert [narrowed(pa.concat_tables(seen), kind) for kind in KIND_OF] == whole


def test_other_layouts_are_refused_in_one_line(tmp_path: Path) -> None:
    write_rounds(tmp_path, range(2))
    part = parts(tmp_path)[0]
    later = schema_of(part.kind).with_metadata({"zorba_ray_records": "3"})
    pq.write_table(pq.read_table(part.path, partitioning=None).replace_schema_metadata(later.metadata), part.path)
    with pytest.raises(ConfigError, match="records of version 3, and this zorba_ray reads version 2") as caught:
        table(tmp_path)
    assert "\n" not in str(caught.value)
    pq.write_table(to_table([round_record(0)]), tmp_path / FOLDER / "part-00000.parquet")
    with pytest.raises(ConfigError, match="layout of an older zorba_ray") as caught:
        table(tmp_path)
    assert "\n" not in str(caught.value)


def test_time_alone_brings_rows_to_disk(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / FOLDER, rounds=1000, seconds=0.0)
    writer.add([round_record(0)])
    assert table(tmp_path).num_rows == 1


def test_an_empty_run_has_an_empty_table_of_the_same_schema(tmp_path: Path) -> None:
    assert table(tmp_path).schema == SCHEMA and table(tmp_path).num_rows == 0


def test_a_torn_file_is_neither_read_nor_kept(tmp_path: Path) -> None:
    write_rounds(tmp_path, range(3))
    torn = tmp_path / FOLDER / "kind=clients" / "rounds=000003-000003" / ".part.parquet.tmp"
    torn.parent.mkdir()
    torn.write_bytes(b"PAR1 half")
    assert table(tmp_path).num_rows == 3 * 3 + 2
    assert pq.read_table(tmp_path / FOLDER / "kind=clients").num_rows == 3 * 2
    RecordWriter(tmp_path / FOLDER)
    assert not torn.exists() and read_part(parts(tmp_path)[0]).num_rows == 3 * 2


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
