"""What every command of the package does around its own work: help, version, JSON, one line for a mistake, status."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zorba_ray import __version__
from zorba_ray.commands.help import help_text
from zorba_ray.commands.line import Command, Program, parse_command
from zorba_ray.config.environment import FromEnvironment, written
from zorba_ray.config.errors import ConfigError

INTERRUPTED = 130  # what shells expect after Ctrl-C


@dataclass(frozen=True)
class Done:
    """What came of a command: for scripts (`--json`), and its exit status."""

    data: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0


def enter(program: Program, argv: Sequence[str] | None, work: Callable[[Command], Done]) -> int:
    """Exit status: that of `work`, 2 after a mistake that the user can mend (one line on stderr), 130 after Ctrl-C.

    With --json stdout holds one JSON object, at the end, and everything for people goes to stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for_scripts = "--json" in arguments
    try:
        command = parse_command(arguments, program)
        if "--help" in command.flags:
            print(help_text(program), end="")
            return 0
        if "--version" in command.flags:
            print(f"zorba_ray {__version__}")
            return 0
        if not for_scripts:
            return work(command).status
        with redirect_stdout(sys.stderr):
            done = work(command)
        print(json.dumps(plain(done.data), ensure_ascii=False, allow_nan=False))
        return done.status
    except ConfigError as error:
        print(f"zorba_ray: {error}", file=sys.stderr)
        if for_scripts:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        return 2
    except KeyboardInterrupt:
        print("zorba_ray: stopped", file=sys.stderr)
        return INTERRUPTED


def plain(value: Any) -> Any:
    """What JSON has words for: what is not finite becomes null, a path its text, text out of the environment its
    reference."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Path | FromEnvironment):
        return str(written(value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
