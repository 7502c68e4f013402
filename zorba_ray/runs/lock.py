"""One writer at a time: the lock on the folder of a run or a study, for as long as whoever writes there lives.

The kernel holds the lock and lets go of it when its process dies, however it dies; the file's content only says who has
it. Where the kernel of this machine cannot know (the content names another one), only the user can. A holder of whose
forebears one is gone (a Ray worker whose command was killed) is about to end, and is waited for.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from zorba_ray.config.errors import ConfigError

FILE = "lock"
ORPHAN = 20.0  # seconds given to a holder of whose forebears one is gone: Ray's processes look for theirs once a second


class Held(ConfigError):
    """Somebody else writes to the folder."""


class Lock:
    """Held from the moment that it exists; `release` it, or drop it."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self._file = _open(self.path)
        holder = _holder(self._file)
        if holder and holder["host"] != platform.node():
            self._file.close()
            raise Held(
                f"{folder} is in use by {described(holder)}, which cannot be asked from {platform.node()}; if that "
                f"process is gone, delete {self.path} and try again"
            )
        self._file.truncate(0)
        self._file.seek(0)
        since = datetime.now().isoformat(" ", timespec="seconds")
        json.dump(
            {"host": platform.node(), "pid": os.getpid(), "forebears": _forebears(), "since": since}, self._file
        )
        self._file.flush()

    def release(self) -> None:
        """Let the next one in; again and again is as good as once."""
        if not self._file.closed:
            if _lies_at(self.path, self._file):
                self.path.unlink()
            self._file.close()


def refuse_held(folder: Path) -> None:
    """One line where somebody writes to the folder now; who goes on to write there takes the lock itself."""
    Lock(folder).release()


def is_held(folder: Path) -> bool:
    """Whether somebody writes to the folder now, for who only looks: nobody is kept out by it. Of a holder on another
    machine, all that is known is that the file is there."""
    try:
        with (folder / FILE).open(encoding="utf-8") as file:
            holder = _holder(file)
    except FileNotFoundError:
        return False
    return holder is not None and (holder["host"] != platform.node() or _lives(holder["pid"]))


def described(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"


def _open(path: Path) -> IO[str]:
    """The file at `path`, locked for us alone. One that was released between our opening and locking it is no longer
    the one at `path`: try again."""
    until = time.monotonic() + ORPHAN
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            if holder and _orphaned(holder) and time.monotonic() < until:
                time.sleep(0.1)
                continue
            who = described(holder) if holder else "another process"
            raise Held(f"{path.parent} is in use by {who}; wait until it ends, or stop it") from None
        if _lies_at(path, file):
            return file
        file.close()


def _lies_at(path: Path, file: IO[str]) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _forebears() -> list[int]:
    """The processes that started this one, as far as can be known."""
    with suppress(ImportError):
        import psutil  # type: ignore[import-untyped]  # comes with Ray

        return [process.pid for process in psutil.Process().parents()]
    return [os.getppid()]


def _orphaned(holder: dict[str, Any]) -> bool:
    """Whether one of those that started the holder, on this machine, has ended."""
    return holder["host"] == platform.node() and not all(_lives(pid) for pid in holder.get("forebears", []))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _holder(file: IO[str]) -> dict[str, Any] | None:
    """Who wrote the content; None where nobody did, or died while at it."""
    file.seek(0)
    try:
        found = json.load(file)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"host", "pid", "since"} <= found.keys() else None
