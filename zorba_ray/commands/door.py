"""The way into a command and out of it, where nothing of it is there yet, or any more: a signal is one line there, too.

What a command begins, it ends in order itself (`signals`). Nothing but the standard library is imported here.
"""

from __future__ import annotations

import os
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
    heed(leave)
    main = import_module(f"zorba_ray.commands.{module}").main
    heed(interrupt)
    status: int = main(*arguments)
    heed(signal.SIG_IGN)  # what Python does at its exit is not to be disturbed
    if status > 128:  # where an import was interrupted, Python might take another status
        from zorba_ray.commands.signals import end_offspring

        sys.stdout.flush()
        sys.stderr.flush()
        end_offspring()
        os._exit(status)
    return status


def leave(number: int, frame: FrameType | None) -> None:
    """At once: there is nothing to end, and an exception in an import becomes another one."""
    os.write(2, b"zorba_ray: stopped. Nothing was begun.\n")
    os._exit(128 + number)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def heed(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
