"""Every tracker, with its real library where that is installed, without a network."""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from runs.toy_runs import config_of, run

from zorba_ray import tracking
from zorba_ray.config import schema
from zorba_ray.config.errors import ConfigError
from zorba_ray.records.schema import SCHEMA, EvaluationRecord, RoundRecord, to_records
from zorba_ray.records.stream import table
from zorba_ray.runs.early import check_early
from zorba_ray.tracking import KINDS, Begun, tracker
from zorba_ray.tracking.tracker import Trackers, numbers

Series = dict[str, dict[int, float]]


def expected(folder: Path) -> Series:
    """What the records say, by name and rounds done."""
    series: Series = {}
    for record in to_records(table(folder)):
        if isinstance(record, RoundRecord | EvaluationRecord):
            rounds, values = numbers(record)
            for name, value in values.items():
                series.setdefault(name, {})[rounds] = value
    return series


def from_csv(folder: Path) -> Series:
    series: Series = {}
    for kind in ("round", "evaluation"):
        with (folder / "tracking" / f"{kind}.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if name != "rounds" and value:
                        series.setdefault(f"{kind}/{name}", {})[int(row["rounds"])] = float(value)
    return series


def from_tensorboard(folder: Path) -> Series:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tracking" / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: {each.step: each.value for each in events.Scalars(name)} for name in events.Tags()["scalars"]}


def from_mlflow(folder: Path) -> Series:
    from mlflow.tracking import MlflowClient

    client, key = MlflowClient(), (folder / "tracking" / "mlflow.run").read_text(encoding="utf-8")
    kept = client.get_run(key)
    assert kept.info.status == "FINISHED" and kept.info.run_name == folder.name
    assert kept.data.params["zo.directions"] == "2"
    return {name: {m.step: m.value for m in client.get_metric_history(key, name)} for name in kept.data.metrics}


def from_wandb(folder: Path) -> Series:
    """Out of the files that `wandb sync` would send."""
    from wandb.proto.wandb_internal_pb2 import Record

    series: Series = {}
    for path in sorted((folder / "tracking" / "wandb").glob("offline-run-*/*.wandb")):
        for data in log_records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                if not name.startswith("_"):
                    series.setdefault(name, {})[row["_step"]] = value
    return series


def log_records(content: bytes) -> Iterator[bytes]:
    """Of LevelDB's log format: blocks of 32 KiB; records of checksum, length and kind (whole, first, middle, last)."""
    at, whole = 7, b""  # behind the file's own header
    while at < len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def from_trackio(folder: Path) -> Series:
    series: Series = {}
    (path,) = Path(os.environ["TRACKIO_DIR"]).glob("*.db")
    with sqlite3.connect(path) as store:
        for rounds, text in store.execute("select step, metrics from metrics where run_name = ?", (folder.name,)):
            for name, value in json.loads(text).items():
                series.setdefault(name, {})[rounds] = float(value)
    return series


READ: Mapping[str, Callable[[Path], Series]] = {
    "csv": from_csv, "tensorboard": from_tensorboard, "mlflow": from_mlflow, "wandb": from_wandb,
    "trackio": from_trackio,
}  # fmt: skip


@pytest.fixture(params=[name if not KINDS[name] else pytest.param(name, marks=pytest.mark.slow) for name in KINDS])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(request.getfixturevalue("trackio_folder")))
    if KINDS[request.param]:
        pytest.importorskip(KINDS[request.param], reason=f"pip install 'zorba-ray[{request.param}]'")
    return str(request.param)


@pytest.fixture(scope="module")
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read once, when the library is imported."""
    return tmp_path_factory.mktemp("trackio")


def same(seen: Series, wanted: Series) -> None:
    assert seen.keys() == wanted.keys()
    for name, values in wanted.items():
        assert seen[name].keys() == values.keys(), name
        for rounds, value in values.items():
            assert seen[name][rounds] == pytest.approx(value, rel=1e-6, nan_ok=True), (name, rounds)


def test_a_tracker_has_what_the_records_have(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    run(folder, f"tracking=[{kind}]", "rounds=6", "evaluation.every=3")
    wanted = expected(folder)
    assert {"round/loss", "round/bytes_up", "evaluation/accuracy"} <= wanted.keys()
    same(READ[kind](folder), wanted)


def test_a_run_that_goes_on_does_so_in_its_trackers(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "the run"
    run(folder, f"tracking=[{kind}]", "rounds=4", "evaluation.every=3")
    run(folder, f"tracking=[{kind}]", "rounds=8", "evaluation.every=3", resume=True)
    same(READ[kind](folder), expected(folder))


def test_csv_rows_of_lost_rounds_are_done_again(tmp_path: Path) -> None:
    """A process that dies may have told a tracker more than the records keep; a torn last line is no row."""
    csv_tracker = tracker.opener("csv")
    begun = Begun("run", tmp_path, {}, 0)
    (tmp_path / "records").mkdir()
    first = csv_tracker(begun)
    for rounds in (1, 2, 3):
        first.log(rounds, {"round/loss": float(rounds)})
    with (tmp_path / "tracking" / "round.csv").open("a", encoding="utf-8") as file:
        file.write("2,7.")
    csv_tracker(Begun("run", tmp_path, {}, 2)).log(3, {"round/loss": 5.0})
    assert from_csv(tmp_path)["round/loss"] == {1: 1.0, 2: 2.0, 3: 5.0}


def test_names_are_those_of_the_records() -> None:
    _, values = numbers(EvaluationRecord(3, 0.5, math.nan, 10))
    assert {name.partition("/")[2] for name in values} < set(SCHEMA.names) and math.isnan(values["evaluation/loss"])
    assert list(KINDS) == list(schema.Config.__dataclass_fields__["tracking"].metadata["choices"])


def test_an_absent_library_is_one_line_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^tracking=wandb needs wandb.*pip install 'zorba-ray\[wandb\]'"):
        check_early(config_of("tracking=[csv, wandb]"))
    with pytest.raises(ConfigError, match="tracking=wandb needs"):
        run(tmp_path / "run", "tracking=[wandb]")
    assert not (tmp_path / "run").exists()
    tracking.refuse_absent(["csv"])


class Breaks:
    """Answers twice."""

    def __init__(self, begun: Begun):
        self.left = 2

    def log(self, rounds: int, values: Mapping[str, float]) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError("no route to host\nand more")

    def close(self) -> None:
        raise AssertionError("it was left out")


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = tracker.opener
    monkeypatch.setattr(tracker, "opener", lambda name: Breaks if name == "wandb" else real(name))
    monkeypatch.setattr(tracker, "find_spec", lambda name: True)
    summary = run(tmp_path / "run", "tracking=[wandb, csv]", "rounds=4", "evaluation.every=4")
    assert summary.rounds_done == 4
    (said,) = [note for note in summary.notes if "tracking" in note]
    assert said.startswith("tracking: wandb failed after round 2") and said.endswith("(no route to host)")
    same(from_csv(tmp_path / "run"), expected(tmp_path / "run"))


def test_a_tracker_that_does_not_begin_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuses(begun: Begun) -> Any:
        raise RuntimeError("no API key")

    monkeypatch.setattr(tracker, "opener", lambda name: refuses)
    with pytest.raises(ConfigError, match="tracking=wandb does not begin: no API key"):
        Trackers(["wandb"], Begun("run", tmp_path, {}, 0))
