from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import pytest

from zorba_ray import __version__
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.records.schema import EvaluationRecord, RoundRecord, to_table
from zorba_ray.runs.summary import Summary, environment, read_summary, summarise

NAMES = {  # scripts of others rely on them
    "version", "name", "seed", "clients", "rounds", "accuracy_first", "accuracy_last", "loss_last", "seconds",
    "bytes_up", "bytes_down", "ledger_sha256", "interrupted",
}  # fmt: skip


def make(folder: Path, loss: float = 0.25) -> Summary:
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(b"steps\n")
    records = to_table(
        [
            RoundRecord(1, loss, 0.1, 2, 10, 20, 2.0, 0.1, 0.0, 1.0),  # not in order: a resumed run's parts may not be
            RoundRecord(0, 0.75, 0.1, 2, 10, 20, 1.0, 0.1, 0.0, 1.0),
            EvaluationRecord(2, 0.8, 0.3, 9),
            EvaluationRecord(0, 0.5, 0.7, 9),
            EvaluationRecord(1, 0.9, 0.2, 9),
        ]
    )
    return summarise(Config(), [records], ledger, "cohort", "cd" * 32, 5.0, environment(1), interrupted=True)


def test_the_summary_follows_from_the_records(tmp_path: Path) -> None:
    summary = make(tmp_path)
    assert (summary.accuracy_first, summary.accuracy_last, summary.accuracy_best) == (0.5, 0.8, 0.9)
    assert (summary.loss_first, summary.loss_last, summary.rounds_done, summary.rounds) == (0.75, 0.25, 2, 100)
    assert (summary.bytes_up, summary.bytes_down, summary.seconds_rounds) == (20, 40, 3.0)
    assert summary.ledger_sha256 == hashlib.sha256(b"steps\n").hexdigest() and summary.ledger_bytes == 6


def test_the_file_has_the_promised_names_and_reads_back(tmp_path: Path) -> None:
    summary = make(tmp_path)
    values = json.loads(summary.write(tmp_path).read_text())
    assert set(values) >= NAMES
    assert values["version"] == __version__ and values["interrupted"] is True
    assert values["environment"]["threads"] == 1 and values["environment"]["libraries"]["numpy"]
    assert values["environment"]["cpu"]
    assert read_summary(tmp_path) == summary
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.jsonl", "summary.json"]


def test_json_stays_json_where_a_loss_is_not_a_number(tmp_path: Path) -> None:
    make(tmp_path, loss=math.nan).write(tmp_path)
    assert read_summary(tmp_path).loss_last is None


def test_a_run_without_rounds_has_nulls(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_bytes(b"")
    summary = summarise(Config(), [to_table([])], ledger, "cohort", "", 0.0, {})
    assert (summary.accuracy_first, summary.loss_last, summary.rounds_done, summary.bytes_up) == (None, None, 0, 0)


def test_what_is_not_a_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a run"):
        read_summary(tmp_path)
    for text in ("{", "[]", '{"name": "x"}', json.dumps(dataclasses.asdict(make(tmp_path)) | {"extra": 1})):
        (tmp_path / "summary.json").write_text(text)
        with pytest.raises(ConfigError, match="not a summary"):
            read_summary(tmp_path)
