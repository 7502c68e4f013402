"""What a dry run says beside what the run then does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zorba_ray.commands.main import main
from zorba_ray.runs.memory import ClassMemory, read_memory
from zorba_ray.runs.summary import read_summary

SMALL = [
    "clients.count=6", "rounds=4", "clients.batch=4", "zo.directions=2", "allocation.plan=cyclic", "evaluation.every=4",
    "evaluation.examples=32", "task.train_examples=200", "task.test_examples=40",
]  # fmt: skip


def estimated(capsys: pytest.CaptureFixture[str], *keys: str) -> dict[str, Any]:
    assert main(["run", "--dry-run", "--local", "--json", *SMALL, *keys]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


FEDAVG = ["method=fedavg", "fedavg.epochs=0", "fedavg.steps=1", "clients.budgets.classes=[{name: all, budget: 64 MiB}]"]


@pytest.mark.parametrize("keys", [[], FEDAVG])
def test_bytes_and_operations_come_near_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keys: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = estimated(capsys, *keys)
    assert not list(tmp_path.iterdir()), "nothing is written"
    folder = tmp_path / "run"
    assert main(["run", "--local", *SMALL, *keys, f"out={folder}"]) == 0
    summary = read_summary(folder)
    assert found["flops"] == pytest.approx(summary.flops + summary.backward_flops, rel=0.3)
    assert found["bytes_up"] == pytest.approx(summary.bytes_up, rel=0.25)
    assert found["bytes_down"] == pytest.approx(summary.bytes_down, rel=0.5)  # what comes after the last round is too
    on_disk = summary.ledger_bytes
    assert 0.5 * on_disk < found["disk"] < 2 * on_disk + 20_000
    assert found["seconds"] > 0 and found["host_memory"] > 300 * 2**20
    assert [ClassMemory(**row) for row in found["budgets"]] == read_memory(folder), "the report's memory table"
    assert list(summary.environment["machines"].values()) == [summary.environment["cpu"]]
    assert summary.environment["gpus"] == []


def test_what_does_not_fit_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["run", "--dry-run", "--local", "clients.budgets.classes=[{name: tiny, budget: 100 KiB}]"]
    assert main(line) == 2
    assert "KiB" in capsys.readouterr().err


def test_budgets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = estimated(capsys)
    for use in found["budgets"]:
        assert 0 < use["predicted"] <= use["budget"] and use["traced"] == pytest.approx(use["predicted"], rel=0.05)
    assert sum(use["clients"] for use in found["budgets"]) == 6
