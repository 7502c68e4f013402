"""`zorba-ray report RUN`: make a run's report.html again, from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import TRUST_CODE, Command, Program
from zorba_ray.config.errors import ConfigError

REPORT = Program(
    "zorba-ray report",
    "Make the report of a run again, from its folder alone.",
    (TRUST_CODE,),
    examples=(("runs/run-20260101-120000", "writes report.html there"),),
    argument="RUN",
)


def main(argv: Sequence[str] | None = None, name: str = REPORT.name) -> int:
    """The command; its exit status."""
    return enter(replace(REPORT, name=name), argv, report)


def report(command: Command) -> Done:
    if command.config_path is None:
        raise ConfigError("which run? zorba-ray report RUN takes the folder of a run")
    from zorba_ray.report.run_page import write_report

    page = write_report(Path(command.config_path), "--trust-code" in command.flags)
    print(page)
    return Done({"report": page})
