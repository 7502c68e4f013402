"""The command as a stranger uses it: real processes, wrong inputs, Ctrl-C, a kill, and going on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zorba_ray.commands.run import main
from zorba_ray.ledger import read_ledger

TINY = [
    "clients.count=3", "clients.batch=2", "rounds=60", "zo.directions=2", "allocation.plan=cyclic",
    "evaluation.every=20", "evaluation.examples=40", "task.train_examples=200", "task.test_examples=40",
]  # fmt: skip


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a session of its own, as a terminal would start it."""
    command = [sys.executable, "-u", "-m", "zorba_ray.run", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_a_round(process: subprocess.Popen[str]) -> None:
    """Read lines until one tells of rounds that are done."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.match(r"round [1-9]\d*/", line):
            return
    raise AssertionError(f"no round was told of:\n{''.join(lines)}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clients.coutn=3"], r"clients\.count"),
        (["zo.mu=-1"], r"zo\.mu"),
        (["clients.count=0"], r"clients\.count"),
        (["rounds=many"], r"rounds.*many"),
        (["method=fedsgd"], r"zorba"),
        (["no_such_config"], r"no_such_config"),
        ([""], r"an empty argument"),
        (["--resmue", "x"], r"--resume"),
        (["--resume", "/nowhere"], r"/nowhere has no config\.yaml"),
        (["--resume", "/nowhere", "zo.mu=3"], r"keeps its config"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_to_change(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error


def test_a_used_folder_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "ledger.jsonl").write_text("")
    assert main([f"out={tmp_path}"]) == 2
    assert f"--resume {tmp_path}" in capsys.readouterr().err


def test_help_and_config_need_no_ray(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    assert "zo.mu" in capsys.readouterr().out
    assert main(["--print-config", "rounds=7"]) == 0
    assert "rounds: 7" in capsys.readouterr().out


def test_a_budget_smaller_than_the_model_names_the_smallest_that_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    budget = "clients.budgets.classes=[{name: tiny, budget: 100 KiB}]"
    assert main([*TINY, budget, "allocation.plan=zorba", f"out={tmp_path / 'run'}", "--local"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("zorba_ray: ") and "KiB" in last
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_then_kill_then_resume_gives_the_undisturbed_ledger(tmp_path: Path):
    long = [*TINY, "rounds=400"]
    whole = start(*long, f"out={tmp_path / 'whole'}")
    assert "points" in whole.communicate(timeout=200)[0]
    assert whole.returncode == 0
    expected = (tmp_path / "whole" / "ledger.jsonl").read_bytes()

    broken = tmp_path / "broken"
    run = start(*long, f"out={broken}")
    wait_for_a_round(run)
    os.killpg(run.pid, signal.SIGINT)
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 130, output
    assert f"python -m zorba_ray.run --resume {broken}" in output
    summary = json.loads((broken / "summary.json").read_text())
    done = summary["rounds_done"]
    assert summary["interrupted"] and 1 <= done < 400
    assert (broken / "report.html").exists()

    run = start("--resume", str(broken), "placement=cohort")
    wait_for_a_round(run)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert done < len(read_ledger(broken / "ledger.jsonl").entries) < 400

    run = start("--resume", str(broken))
    output = run.communicate(timeout=200)[0]
    assert run.returncode == 0, output
    assert (broken / "ledger.jsonl").read_bytes() == expected
    summary = json.loads((broken / "summary.json").read_text())
    assert not summary["interrupted"] and summary["rounds_done"] == 400
    undisturbed = json.loads((tmp_path / "whole" / "summary.json").read_text())
    for key in ("accuracy_first", "accuracy_last", "bytes_up", "bytes_down", "flops", "model_sha256", "ledger_sha256"):
        assert summary[key] == undisturbed[key], key
