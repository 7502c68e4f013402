"""The records of a run as Ray Datasets, while another process writes them and when it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import zorba_ray
from zorba_ray.config.errors import ConfigError
from zorba_ray.records import live, stream
from zorba_ray.records.schema import ClientRecord, EvaluationRecord, RoundRecord
from zorba_ray.records.stream import FOLDER, RecordWriter
from zorba_ray.runs.lock import FILE, Lock, is_held

ROUNDS = 60
WRITER = """
import sys, time
from pathlib import Path
from runs.toy_runs import open_run
from zorba_ray.records.schema import RoundRecord

folder = Path(sys.argv[1])
simulation = open_run(folder, "rounds=60", "evaluation.every=20")
print("begun", flush=True)
for event in simulation.events:
    time.sleep(0.05)
    while isinstance(event, RoundRecord) and event.round == 40 and not (folder / "seen").exists():
        time.sleep(0.05)
simulation.finish()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in another process, that does its last rounds only when its reader has seen an earlier one."""
    tests = Path(__file__).parents[1]
    there = os.pathsep.join([str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", WRITER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": there}) as child:
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        yield child
        child.kill()


def test_another_process_sees_rounds_as_they_go_by(
    local_ray: None, tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    run = zorba_ray.open_run(tmp_path / "run")
    assert run.going_on and "going on" in repr(run)
    with pytest.raises(ConfigError, match="it has its summary when it has ended"):
        _ = run.summary
    seen = []
    for row in run.follow().iter_rows():
        if not seen:
            assert writer.poll() is None, "the run waits for this to be seen"
            assert run.rounds.count() <= ROUNDS and run.evaluations.take_all()[0]["round"] == 0
            (tmp_path / "run" / "seen").touch()
        seen.append(row["round"])
    assert seen == list(range(ROUNDS))
    assert writer.wait(60) == 0 and not run.going_on and run.summary.rounds_done == ROUNDS

    def doubled(batch: pa.Table) -> pa.Table:
        return pa.table({"round": pc.multiply(batch["round"], 2)})

    clients = run.follow("clients").map_batches(doubled, batch_format="pyarrow", batch_size=None)
    assert sorted(row["round"] for row in clients.iter_rows()) == sorted(2 * t for t in range(ROUNDS) for _ in range(3))
    assert run.clients.count() == run.table("clients").num_rows == 3 * ROUNDS
    assert run.rounds.schema().names == run.table("rounds").column_names
    assert sorted(run.evaluations.to_pandas()["round"]) == [0, 20, 40, 60]
    with pytest.raises(ConfigError, match="no records of kind 'faults'; there are clients, evaluations, rounds"):
        run.follow("faults")


def round_record(t: int) -> RoundRecord:
    return RoundRecord(t, 1.0, 0.1, 2, 16, 32, 0.5, 0.1, 0.0, 1.0)


def written(folder: Path, first: int, last: int, **every: Any) -> None:
    with RecordWriter(folder / FOLDER, **every) as writer:
        for t in range(first, last):
            writer.add([round_record(t), *(client_record(t, n) for n in range(2)), EvaluationRecord(t, 0.5, 0.7, 8)])


def client_record(t: int, client: int) -> ClientRecord:
    return ClientRecord(t, client, "small", 100, 90, 2, 8, 0.5, [0.25, -0.5], -0.125, 0.375, 12, 1e6, 8, 16, 0.1, "ok")


@pytest.mark.parametrize("kind", ["rounds", "clients", "evaluations"])
def test_a_follower_misses_and_repeats_nothing_though_files_are_joined(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two looks more is written; small files become one under the follower's eyes."""
    monkeypatch.setattr(stream, "MANY", 4)
    monkeypatch.setattr(live, "GLANCE", 0.0)
    done = [0]

    def ends() -> bool:
        written(tmp_path, done[0], done[0] + 3, rounds=1)
        done[0] += 3
        return done[0] >= 15

    found = [t for table in live.follow(tmp_path / FOLDER, kind, ends) for t in table["round"].to_pylist()]
    assert found == [t for t in range(15) for _ in range(2 if kind == "clients" else 1)]


def test_a_run_is_held_by_who_writes_and_not_by_who_looks(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    lock = Lock(tmp_path)
    assert is_held(tmp_path) and is_held(tmp_path)
    content = lock.path.read_text()
    lock.release()
    assert not is_held(tmp_path)
    Lock(tmp_path).release()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / FILE).write_text(content.replace(f'"pid": {os.getpid()}', f'"pid": {child.pid}'))
    assert not is_held(tmp_path), "its writer is dead"


@pytest.mark.parametrize("reader", ["pandas", "polars", "duckdb"])
def test_a_kinds_folder_is_a_table_to_others(tmp_path: Path, reader: str) -> None:
    library = pytest.importorskip(reader)
    written(tmp_path, 0, 7, rounds=3)
    folder = tmp_path / FOLDER / "kind=rounds"
    if reader == "duckdb":
        rows = library.sql(f"select * from read_parquet('{folder}/*/part.parquet')").fetchall()
    else:
        rows = library.read_parquet(folder)
    assert len(rows) == 7
