"""Commands in sessions of their own, as a terminal would start them: their environment, and who belongs to one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import IO

import psutil

HIDDEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")  # of a Ray that this process has up


def start(line: Sequence[str], output: int | IO[str]) -> subprocess.Popen[str]:
    """The command, with what it says on stdout and stderr going to `output`."""
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return subprocess.Popen(
        line, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment
    )


def members(session: int) -> list[psutil.Process]:
    """Processes of the session that live."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
