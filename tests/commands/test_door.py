"""A signal at any moment of a command is one line and the status that shells expect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zorba_ray.commands.entry import Done
from zorba_ray.commands.signals import Signals, in_order
from zorba_ray.config.errors import ConfigError

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@BOTH
def test_while_a_command_is_imported(number: int) -> None:
    done = python(f"from zorba_ray.commands.door import *; heed(leave); os.kill(os.getpid(), {number}); print('on')")
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "zorba_ray: stopped. Nothing was begun.\n")


@BOTH
def test_an_interrupted_import_does_not_change_the_status(number: int) -> None:
    """Python takes code that was run from text and interrupted for its own end."""
    code = f"""
import os, sys, types
from zorba_ray.commands import door
def main():
    try:
        exec('os.kill(os.getpid(), {number}); [None for _ in range(10**6)]')
    except KeyboardInterrupt:
        return 128 + {number}
sys.modules["zorba_ray.commands.fake"] = types.SimpleNamespace(main=main)
sys.exit(door.through("fake"))
"""
    assert python(code).returncode == 128 + number


@BOTH
def test_whatever_an_interrupt_turns_into_is_the_interrupt(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(what: type[Exception]) -> Done:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except KeyboardInterrupt:
            raise what("numpy could not be imported") from None
        return Done()

    signals = Signals(tmp_path / "run", begun=True)
    assert in_order(signals, lambda: interrupted(ImportError)).status == 128 + number
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith(f"--resume {tmp_path / 'run'}\n")
    with pytest.raises(ConfigError):  # the user's to mend, and said as that
        in_order(Signals(), lambda: interrupted(ConfigError))
    with pytest.raises(ImportError):
        in_order(Signals(), lambda: exec("raise ImportError"))
