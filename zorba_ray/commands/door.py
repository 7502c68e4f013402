"""The way into a command and out of it, where nothing of it is there yet, or any more: a signal is one line there, too.

What a command begins, it ends in order itself (`signals`). Nothing but the standard library is imported here.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any


def script() -> int:
    """`zorba-ray`."""
    return through("main")


def through(module: str, *arguments: Any) -> int:
    """Exit status of the `main` of a module of this room, which is imported here."""
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    heed(stop)
    try:
        status: int = import_module(f"zorba_ray.commands.{module}").main(*arguments)
        heed(signal.SIG_IGN)  # what Python does at its exit is not to be disturbed
    except KeyboardInterrupt:
        heed(signal.SIG_IGN)
        print("zorba_ray: stopped. Nothing was begun.", file=sys.stderr)
        status = 128 + (came[-1] if came else signal.SIGINT)
    return status


def heed(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
