"""Runs that go on without a terminal: begun, found again, watched, ended, gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zorba_ray.commands import detached
from zorba_ray.commands.detached import Process, birth, line_of, state
from zorba_ray.commands.line import parse_command
from zorba_ray.commands.main import main

TINY = [
    "clients.count=3", "clients.batch=2", "zo.directions=2", "allocation.plan=cyclic", "evaluation.every=1000",
    "evaluation.examples=16",
]  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *line: str) -> dict[str, Any]:
    """What a command says to scripts."""
    status = main([*line, "--json"])
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed | {"status": status}


def wait_for_rounds(capsys: pytest.CaptureFixture[str], folder: Path, rounds: int) -> None:
    for _ in range(600):
        (run,) = told(capsys, "list", str(folder))["runs"]
        if run["rounds_done"] >= rounds:
            return
        assert run["state"] in ("running", "never began"), run
        time.sleep(0.2)
    raise AssertionError(f"never came to round {rounds}")


def test_a_detached_run_is_found_stopped_and_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    begun = told(capsys, "run", *TINY, "rounds=100000", f"out={folder}", "--local", "--detach")
    assert begun["folder"] == str(folder) and os.getsid(begun["pid"]) == begun["pid"], "a session of its own"
    wait_for_rounds(capsys, tmp_path, 2)
    stopped = told(capsys, "stop", str(folder))
    assert stopped["state"] == "interrupted" and stopped["rounds_done"] >= 2 and stopped["status"] == 0
    assert birth(begun["pid"]) == "" and (folder / "report.html").is_file()
    assert main(["attach", str(folder)]) == 0
    assert "Interrupted after" in capsys.readouterr().out
    (run,) = told(capsys, "list", str(tmp_path))["runs"]
    assert run["state"] == "interrupted"
    assert told(capsys, "stop", str(folder))["state"] == "interrupted", "what has ended is only told"


@pytest.mark.slow
def test_a_killed_run_is_told_apart_from_a_running_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    begun = told(capsys, "run", *TINY, "rounds=100000", f"out={folder}", "--local", "--detach")
    wait_for_rounds(capsys, tmp_path, 1)
    os.kill(begun["pid"], signal.SIGKILL)
    while birth(begun["pid"]):
        time.sleep(0.05)
    (run,) = told(capsys, "list", str(tmp_path))["runs"]
    assert run["state"] == "died" and run["rounds_done"] >= 1


def test_a_process_of_the_same_number_is_another_one(tmp_path: Path) -> None:
    mine = Process(str(tmp_path / "run"), "run", 3, os.getpid(), birth(os.getpid()), os.uname().nodename, [])
    assert mine.alive and state(mine)["state"] == "running"
    other = Process(mine.folder, "run", 3, os.getpid(), "1", mine.machine, [])
    assert not other.alive and state(other)["state"] == "never began"
    assert state(Process(mine.folder, "run", 3, 1, "1", "elsewhere", []))["state"] == "on elsewhere"


def test_the_line_is_given_again_without_detach(tmp_path: Path) -> None:
    command = parse_command(["my.yaml", "rounds=3", "--detach", "--address", "auto", "--json"])
    assert line_of(command, tmp_path) == ["my.yaml", "rounds=3", f"out={tmp_path}", "--address=auto"]
    command = parse_command(["--resume", "runs/a", "--local", "--detach"])
    assert line_of(command, tmp_path) == ["--resume=runs/a", "--local"]


def test_runs_that_are_detached_in_one_second_have_folders_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detached.subprocess, "Popen", lambda line, **options: SimpleNamespace(pid=os.getpid()))
    folders = [told(capsys, "run", "name=twin", "--detach")["folder"] for _ in range(3)]
    assert len(set(folders)) == 3 and all(Path(folder).is_dir() for folder in folders)
    assert len(list((tmp_path / "runs").glob("*.process.json"))) == 3


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no detached run" in told(capsys, "attach", str(tmp_path / "nothing"))["error"]
    assert "which run?" in told(capsys, "stop")["error"]
    assert told(capsys, "list", str(tmp_path)) == {"runs": [], "status": 0}
    assert "out of" not in told(capsys, "run", "rounds=0", "--detach")["error"]
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_a_cluster_is_found_and_stopped_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its driver's actor, from a process that did not begin it."""
    import ray

    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    address = context.address_info["gcs_address"]
    line = [*TINY, "rounds=100000", "name=far", f"out={tmp_path / 'run'}", "--address", address]
    command = [sys.executable, "-u", "-m", "zorba_ray.run", *line]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert run.stdout is not None
        for shown in run.stdout:
            if "round 0/" in shown:
                break
        assert told(capsys, "list", "--address", address)["runs"] == [{"run": "far", "state": "running"}]
        assert "there are far" in told(capsys, "stop", "near", "--address", address)["error"]
        attached = subprocess.Popen(
            [sys.executable, "-u", "-m", "zorba_ray", "attach", "far", "--address", address],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert attached.stdout is not None
        seen = next(line for line in attached.stdout if "  loss " in line)
        assert 0 < int(seen.split()[1].removesuffix("/100000")) < 100_000
        assert told(capsys, "stop", "far", "--address", address)["state"] == "stopping"
        end = attached.communicate(timeout=120)[0]
        assert attached.returncode == 0 and f"what it came to is in {tmp_path / 'run'}" in end, end
        rest = run.stdout.read()
        assert run.wait(120) == 130 and "Interrupted after" in rest, rest
    finally:
        run.kill()
        ray.shutdown()
