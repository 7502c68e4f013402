"""A run's folder as 0.1 left it, kept in run_of_0.1/: every later version reads it, to the same weights, and goes on.

Where a layout changes, add a reader, or say in one line that the version does not read it and keep this test for those
that do; never make the kept folder anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from zorba_ray import open_run
from zorba_ray.ledger import ledger_sha256, read_ledger
from zorba_ray.messages import SharedStep
from zorba_ray.report.run_page import write_report
from zorba_ray.runs.replay import replayed_model
from zorba_ray.runs.resume import resumed_config
from zorba_ray.runs.simulate import simulate
from zorba_ray.runs.verify import verify

KEPT = Path(__file__).parent / "run_of_0.1"
LEDGER = "7905aa2fee0a48cba6cfe96a80d1b7b9f89a73ba669a558c73deccb011336718"
MODEL = "5e519a163ef7a0b1987f8efe00b1902b91fde5bda0ca5d0d9c5e5a69299ccde3"


def test_ledger_records_and_summary_are_read() -> None:
    read = read_ledger(KEPT / "ledger.jsonl")
    assert ledger_sha256(KEPT / "ledger.jsonl") == LEDGER and not read.cut
    assert [entry.round for entry in read.entries] == [0, 1, 2]
    assert all(isinstance(entry.step, SharedStep) for entry in read.entries)
    run = open_run(KEPT)
    assert run.summary.ledger_sha256 == LEDGER and run.summary.bytes_up == 48 and run.summary.version == "0.1.0"
    rounds, clients, evaluations = (run.table(kind).to_pylist() for kind in ("rounds", "clients", "evaluations"))
    assert [row["round"] for row in rounds] == [0, 1, 2] and len(clients) == 6
    assert sum(row["bytes_up"] for row in clients) == sum(row["bytes_up"] for row in rounds) == 48
    assert [(row["round"], row["accuracy"]) for row in evaluations] == [(0, 0.5625), (2, 0.5625), (3, 0.5625)]
    assert run.plan.matrix.shape == (3, 6)


def test_its_weights_are_made_again_to_the_bit() -> None:
    assert replayed_model(KEPT).sha256 == MODEL == open_run(KEPT).summary.model_sha256


def test_it_is_whole_and_has_a_report(tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT, tmp_path / "run")
    assert verify(folder).whole
    assert LEDGER in write_report(folder).read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_goes_on(tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT, tmp_path / "run")
    before = (folder / "ledger.jsonl").read_bytes()
    summary = simulate(resumed_config(folder, ["rounds=4"]), folder, resume=True)
    assert summary.rounds_done == 4
    assert (folder / "ledger.jsonl").read_bytes().startswith(before)
