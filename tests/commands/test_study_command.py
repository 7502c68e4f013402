"""A real small study through the command: from a file to tables, figures and a page, and on from where it stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zorba_ray.commands.study import main
from zorba_ray.studies import compute
from zorba_ray.studies.cells import cells
from zorba_ray.studies.spec import load_study

STUDY = """
name: small
set: [rounds=3, clients.count=4, zo.directions=2, evaluation.every=1, evaluation.examples=60,
      task.validation_examples=40]
arms:
- {name: plan, group: zeroth order}
- {name: own noise, set: [zo.shared=false], group: zeroth order}
- {name: too large, set: [allocation.plan=full, 'clients.budgets.classes=[{name: all, budget: 1 MiB}]']}
- {name: wild, set: [guard.loss_multiple=1.0001], rates: [50, 100]}
seeds: [0, 1]
tuning: {factors: [0.1, 1], rounds: 3}
target: 0.4
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.yaml").write_text(STUDY)
    assert main([str(folder / "small.yaml"), f"out={folder / 'out'}", "tuning.seed=7"]) == 0
    return folder / "out"


def outcomes(study: Path) -> dict[str, tuple[int, str]]:
    """When each run was done, and how it ended."""
    return {
        str(path.parent.relative_to(study)): (path.stat().st_mtime_ns, json.loads(path.read_text())["status"])
        for path in study.glob("runs/*/*/outcome.json")
    }


@pytest.mark.ray
@pytest.mark.slow
def test_every_run_is_recorded_whatever_came_of_it(study: Path) -> None:
    statuses: dict[str, list[str]] = {}
    for name, (_, status) in sorted(outcomes(study).items()):
        statuses.setdefault(name.split("/")[1], []).append(status)
    assert statuses["plan"] == statuses["own-noise"] == ["ok"] * 4
    assert statuses["too-large"] == ["infeasible"] * 2
    assert set(statuses["wild"]) == {"diverged"}
    rows = pq.read_table(study / "results.parquet").to_pylist()
    finals = [row for row in rows if row["phase"] == "final" and row["arm"] == "plan"]
    assert sorted((row["seed"], row["rounds"]) for row in finals) == [(s, float(t)) for s in "01" for t in range(4)]
    assert {row["seed"] for row in rows if row["phase"] == "sweep"} == {"7"}


@pytest.mark.ray
@pytest.mark.slow
def test_tables_pictures_and_page_are_there(study: Path) -> None:
    table = (study / "table.txt").read_text()
    for words in ("plan", "own noise", "infeasible", "diverged", "What a client pays", "does not fit"):
        assert words in table
    assert (study / "table.md").read_text().count("| own noise |") >= 2
    for name in ("accuracy-rounds", "accuracy-bytes-per-client", "accuracy-flops", "vram", "sweeps"):
        assert (study / f"{name}.png").stat().st_size > 5000
    page = (study / "report.html").read_text()
    assert page.count("<svg") >= 5 and "#0a0b0c" not in page


@pytest.mark.ray
@pytest.mark.slow
def test_going_on_does_only_what_is_missing(study: Path) -> None:
    before, table = outcomes(study), (study / "table.txt").read_text()
    (gone,) = [name for name in before if name.startswith("runs/plan/final") and name.endswith("seed1")]
    ledger = (study / gone / "ledger.jsonl").read_bytes()
    shutil.rmtree(study / gone)
    assert main(["--resume", str(study)]) == 0
    after = outcomes(study)
    assert {name for name in after if after[name] != before.get(name)} == {gone}
    assert (study / gone / "ledger.jsonl").read_bytes() == ledger
    outcome, cost = table.split("What a client pays")
    assert (study / "table.txt").read_text().startswith(outcome)
    assert cost


def test_mistakes_are_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(STUDY)
    for arguments, told in (
        (["only=[plam]"], "the nearest is 'plan'"),
        (["seeds=[]"], "seeds is []"),
        (["zo.moo=1"], "'zo.mu'"),
        (["--resume", str(tmp_path)], "keeps its spec"),
    ):
        assert main([str(tmp_path / "small.yaml"), f"out={tmp_path / 'out'}", *arguments]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_plan_is_printed_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(STUDY)
    assert main([str(tmp_path / "small.yaml"), "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "16 runs, 48 rounds" in printed and "wild: 2 rates × 3 rounds, 2 seeds × 3 rounds; rates 50, 100" in printed


@pytest.mark.slow
def test_what_a_study_takes_is_told_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(STUDY)
    line = [str(tmp_path / "small.yaml"), "only=[plan, too large]"]
    assert main([*line, "--dry-run", "--json"]) == 0
    plan, large = json.loads(capsys.readouterr().out)["compute"]
    assert (plan["runs"], plan["rounds"], plan["client_rounds"]) == (4, 12, 48)
    assert plan["flops"] > 0 and plan["core_seconds"] > 0 and plan["disk"] > 0 and not plan["why"]
    assert large["flops"] == 0 and "does not fit" in large["why"]
    every = cells(load_study(tmp_path / "small.yaml"))
    study = load_study(tmp_path / "small.yaml")
    assert not compute.is_much(study, every)
    monkeypatch.setattr(compute, "MUCH", 4 * 48)
    assert compute.is_much(study, every), "all four arms"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_finished(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches all processes of a terminal, SIGTERM the one that a scheduler knows."""
    (tmp_path / "small.yaml").write_text(STUDY)
    command = [sys.executable, "-u", "-m", "zorba_ray.study", str(tmp_path / "small.yaml"), f"out={tmp_path / 'out'}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if " ok in " in line:
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            break
    rest = process.stdout.read()
    assert process.wait(60) == 128 + number, "".join(lines) + rest
    assert f"--resume {tmp_path / 'out'}" in rest.splitlines()[-1] and "Traceback" not in rest
    assert "SIGTERM received" not in rest and not (tmp_path / "out" / "lock").exists()
    done = outcomes(tmp_path / "out")
    assert 1 <= sum(status == "ok" for _, status in done.values()) < 14
    assert not list((tmp_path / "out").rglob("*.tmp"))
