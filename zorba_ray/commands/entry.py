"""What every command of the package does around its own work: help, version, one line for a mistake, exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from zorba_ray import __version__
from zorba_ray.commands.help import help_text
from zorba_ray.commands.line import Command, Program, parse_command
from zorba_ray.config.errors import ConfigError

INTERRUPTED = 130  # what shells expect after Ctrl-C


def enter(program: Program, argv: Sequence[str] | None, work: Callable[[Command], int]) -> int:
    """Exit status: that of `work`, 2 after a mistake that the user can mend (one line on stderr), 130 after Ctrl-C."""
    try:
        command = parse_command(sys.argv[1:] if argv is None else argv, program)
        if "--help" in command.flags:
            print(help_text(program), end="")
            return 0
        if "--version" in command.flags:
            print(f"zorba_ray {__version__}")
            return 0
        return work(command)
    except ConfigError as error:
        print(f"zorba_ray: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("zorba_ray: stopped", file=sys.stderr)
        return INTERRUPTED
