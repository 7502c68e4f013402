"""Ctrl-C and SIGTERM: one line that says how to go on, or that nothing was begun; and no process stays."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import sessions

from zorba_ray.ledger import read_ledger

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TINY = [
    "clients.count=3", "clients.batch=2", "rounds=400", "zo.directions=2", "allocation.plan=cyclic",
    "evaluation.every=200", "evaluation.examples=64", "runtime.actors=1",
]  # fmt: skip


class Run:
    """The command in a session of its own, as a terminal would start it."""

    def __init__(self, *arguments: str, python: Sequence[str] = ("-m", "zorba_ray.run")):
        command = [sys.executable, "-u", *python, *arguments]
        self.process = sessions.start(command, subprocess.PIPE)
        self.lines: list[str] = []

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} never came:\n{''.join(self.lines)}")

    def end(self, timeout: float = 120) -> tuple[int, str]:
        """Exit status, output; nothing of the session is left."""
        rest, _ = self.process.communicate(timeout=timeout)
        until = time.monotonic() + 60
        while self.members() and time.monotonic() < until:
            time.sleep(0.2)
        assert not self.members()
        return self.process.returncode, "".join(self.lines) + rest

    def members(self) -> list[psutil.Process]:
        return sessions.members(self.process.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_round_nothing_was_begun_or_it_can_be_gone_on_with(tmp_path: Path, number: int):
    """A stage is told a little after it began: on a busy machine the ledger may be there by then."""
    run = Run(*TINY, f"out={tmp_path / 'run'}")
    run.wait_for("starting the driver")
    os.kill(run.process.pid, number)
    status, output = run.end()
    assert status == 128 + number, output
    nothing = output.splitlines()[-1] == "zorba_ray: stopped. Nothing was begun."
    assert nothing or f"--resume {tmp_path / 'run'}" in output.splitlines()[-1], output
    assert (tmp_path / "run" / "ledger.jsonl").exists() is not nothing
    assert "Traceback" not in output and "SIGTERM received" not in output


def test_sigterm_flushes_and_says_how_to_go_on(tmp_path: Path):
    folder = tmp_path / "run"
    run = Run(*TINY, f"out={folder}")
    run.wait_for("round 20/400")
    access = json.loads((folder / "ray.json").read_text())
    assert stat.S_IMODE((folder / "ray.json").stat().st_mode) == 0o600
    assert access["address"].startswith("127.0.0.1:") and len(access["RAY_AUTH_TOKEN"]) == 64
    assert listening_elsewhere(run) == []
    os.kill(run.process.pid, signal.SIGTERM)
    status, output = run.end()
    assert status == 128 + signal.SIGTERM, output
    assert f"python -m zorba_ray.run --resume {folder}" in output
    assert "Traceback" not in output and "SIGTERM received" not in output
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["interrupted"] and summary["rounds_done"] == len(read_ledger(folder / "ledger.jsonl").entries) >= 20
    assert not (folder / "ray.json").exists()


def listening_elsewhere(run: Run) -> list[object]:
    """Sockets of the run on which others than this machine are heard."""
    return [
        connection.laddr
        for process in run.members()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN and not connection.laddr.ip.endswith("127.0.0.1")
    ]


def test_a_second_ctrl_c_ends_at_once_and_the_ledger_is_whole(tmp_path: Path):
    """While an actor stands still, so that the first one has to wait."""
    folder = tmp_path / "run"
    run = Run(*TINY, f"out={folder}")
    run.wait_for("round 20/400")
    actors = [p for p in run.members() if any("ray::ClientActor" in part for part in p.cmdline())]
    assert actors
    for actor in actors:
        actor.send_signal(signal.SIGSTOP)
    os.kill(run.process.pid, signal.SIGINT)
    run.wait_for("stopping after this round")
    os.kill(run.process.pid, signal.SIGINT)
    try:
        run.process.wait(timeout=30)
    finally:
        for actor in actors:
            actor.kill()
    status, output = run.end()
    assert status == 128 + signal.SIGINT
    assert output.splitlines()[-1].startswith("zorba_ray: stopped at once.") and f"--resume {folder}" in output
    assert len(read_ledger(folder / "ledger.jsonl").entries) >= 20


def test_after_sigterm_a_round_that_does_not_end_is_left(tmp_path: Path):
    folder = tmp_path / "run"
    run = Run(*TINY, f"out={folder}")
    run.wait_for("round 20/400")
    actors = [p for p in run.members() if any("ray::ClientActor" in part for part in p.cmdline())]
    for actor in actors:
        actor.send_signal(signal.SIGSTOP)
    os.kill(run.process.pid, signal.SIGTERM)
    try:
        status, output = run.end()
    finally:
        for actor in actors:
            if actor.is_running():
                actor.kill()
    assert status == 128 + signal.SIGTERM and f"--resume {folder}" in output, output
    assert json.loads((folder / "summary.json").read_text())["interrupted"]


SCRIPT = """
import sys
from zorba_ray import run
for name in ("first", "second"):
    result = run(**dict(argument.split("=") for argument in sys.argv[2:]), out=f"{sys.argv[1]}/{name}")
    print("came back", name, result.summary.interrupted)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_goes_on_after_ctrl_c_and_ends_after_sigterm(tmp_path: Path, number: int):
    (tmp_path / "script.py").write_text(SCRIPT)
    shorter = [key for key in TINY if not key.startswith("rounds")]
    run = Run(str(tmp_path), *shorter, "rounds=100", python=[str(tmp_path / "script.py")])
    run.wait_for("round 20/100")
    os.kill(run.process.pid, number)
    status, output = run.end()
    assert "Traceback" not in output and "SIGTERM received" not in output
    assert json.loads((tmp_path / "first" / "summary.json").read_text())["interrupted"]
    if number == signal.SIGTERM:
        assert status == 128 + number and f"--resume {tmp_path / 'first'}" in output.splitlines()[-1], output
        assert not (tmp_path / "second").exists()
    else:
        assert status == 0 and output.splitlines()[-1] == "came back second False", output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_allocation_that_is_stopped_leaves_nothing(tmp_path: Path, number: int):
    folder = tmp_path / "plan"
    run = Run(f"out={folder}", python=["-m", "zorba_ray.allocate"])
    while not folder.exists():
        time.sleep(0.01)
    os.kill(run.process.pid, number)
    status, output = run.end()
    assert status == 128 + number, output
    assert output == "zorba_ray: stopped. Nothing was begun.\n" and not folder.exists()
