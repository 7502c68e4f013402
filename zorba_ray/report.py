"""`python -m zorba_ray.report RUN`: make a run's report.html again, from its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zorba_ray import __version__
from zorba_ray.config.command import Program, parse_command
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.help import help_text

REPORT = Program(
    "python -m zorba_ray.report",
    "Make the report of a run again, from its folder alone.",
    examples=(("runs/run-20260101-120000", "writes report.html there"),),
    argument="RUN",
    keys=False,
)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        command = parse_command(sys.argv[1:] if argv is None else argv, REPORT)
        if "--help" in command.flags:
            print(help_text(REPORT), end="")
        elif "--version" in command.flags:
            print(f"zorba_ray {__version__}")
        elif command.config_path is None:
            raise ConfigError("which run? python -m zorba_ray.report RUN takes the folder of a run")
        else:
            from zorba_ray.results.report import write_report

            print(write_report(Path(command.config_path)))
    except ConfigError as error:
        print(f"zorba_ray: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
