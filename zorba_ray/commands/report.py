"""`zorba-ray report RUN …`: the page of a run, of several beside each other, or of a study, from their folders."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import TRUST_CODE, Command, Flag, Program
from zorba_ray.config.errors import ConfigError

if TYPE_CHECKING:
    from zorba_ray.report.pictures import Picture

REPORT = Program(
    "zorba-ray report",
    "Make the page of a run from its folder alone, also while the run still goes on; of several runs beside each "
    "other; or of a study.",
    (
        Flag("--study", "RUN is the folder of a study"),
        Flag("--out", "where the page of several runs goes; without it comparison.html here", "FILE"),
        Flag("--figures", "write each figure as SVG, PDF and PNG for a two-column paper, and its data as CSV", "DIR"),
        Flag("--open", "show the page in a browser"),
        TRUST_CODE,
    ),
    examples=(
        ("runs/run-20260101-120000 --open", "writes report.html there and shows it"),
        ("runs/first runs/second runs/third", "their curves in one page, comparison.html"),
        ("runs/first runs/second --figures figures", "and the figures for a paper"),
        ("runs/methods-20260101-120000 --study", "tables and figures of a study, of what is finished in it"),
    ),
    argument="RUN",
    many=True,
)


def main(argv: Sequence[str] | None = None, name: str = REPORT.name) -> int:
    """The command; its exit status."""
    return enter(replace(REPORT, name=name), argv, report)


def report(command: Command) -> Done:
    if command.config_path is None:
        raise ConfigError("which run? zorba-ray report RUN takes the folder of a run, or of several")
    folders, flags = [Path(command.config_path), *map(Path, command.more)], command.flags
    trusted = TRUST_CODE.name in flags
    if "--study" in flags:
        page, pictures = of_study(folders, trusted)
    elif len(folders) > 1:
        page, pictures = of_several(folders, Path(flags.get("--out", "comparison.html")), trusted)
    else:
        page, pictures = of_one(folders[0], trusted)
    if "--out" in flags and ("--study" in flags or len(folders) == 1):
        raise ConfigError("--out is for the page of several runs; that of one, or of a study, lies in its folder")
    files: list[Path] = []
    if "--figures" in flags:
        from zorba_ray.report.pictures import write_figures

        files = write_figures(pictures, Path(flags["--figures"]))
    print(page)
    if files:
        print(f"{len(pictures)} figures in {flags['--figures']}")
    if "--open" in flags and not webbrowser.open(page.absolute().as_uri()):
        print("no browser was found to show it")
    return Done({"report": page, "figures": files})


def of_one(folder: Path, trusted: bool) -> tuple[Path, list[Picture]]:
    from zorba_ray.report.gather import read_run
    from zorba_ray.report.run_figures import pictures_of
    from zorba_ray.report.run_page import write_page

    refuse_study(folder)
    run = read_run(folder, trusted)
    return write_page(run), pictures_of(run)


def of_several(folders: Sequence[Path], path: Path, trusted: bool) -> tuple[Path, list[Picture]]:
    from zorba_ray.report.curves import pictures
    from zorba_ray.report.runs_page import write_comparison

    for folder in folders:
        refuse_study(folder)
    page, series = write_comparison(folders, path, trusted)
    return page, pictures(series)


def of_study(folders: Sequence[Path], trusted: bool) -> tuple[Path, list[Picture]]:
    from zorba_ray.commands.study import opened_for_reading

    if len(folders) > 1:
        raise ConfigError("--study takes one folder, that of a study")
    from zorba_ray.report.study_page import PAGE, conclude, pictures_of

    study, folder = opened_for_reading(folders[0], trusted)
    conclude(study, folder)
    return folder / PAGE, pictures_of(study, folder)


def refuse_study(folder: Path) -> None:
    from zorba_ray.studies.store import STUDY

    if (folder / STUDY).is_file():
        raise ConfigError(f"{folder} is the folder of a study: add --study")
