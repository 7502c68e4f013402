"""`python -m zorba_ray.report RUN`: make a run's report.html again, from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zorba_ray.commands.entry import enter
from zorba_ray.commands.line import Command, Program
from zorba_ray.config.errors import ConfigError

REPORT = Program(
    "python -m zorba_ray.report",
    "Make the report of a run again, from its folder alone.",
    examples=(("runs/run-20260101-120000", "writes report.html there"),),
    argument="RUN",
    keys=False,
)


def main(argv: Sequence[str] | None = None) -> int:
    return enter(REPORT, argv, report)


def report(command: Command) -> int:
    if command.config_path is None:
        raise ConfigError("which run? python -m zorba_ray.report RUN takes the folder of a run")
    from zorba_ray.report.run_page import write_report

    print(write_report(Path(command.config_path)))
    return 0

