"""`python -m zorba_ray.study STUDY [key=value …]`: many runs, one table and one set of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from zorba_ray.commands.entry import INTERRUPTED, Done, enter
from zorba_ray.commands.line import TRUST_CODE, Command, Flag, Program
from zorba_ray.config.errors import ConfigError
from zorba_ray.methods import kind_of
from zorba_ray.studies.spec import Study, find_study, load_study

if TYPE_CHECKING:
    from zorba_ray.studies.cells import Cell

STUDY = Program(
    "python -m zorba_ray.study",
    "Compare named arms on the same data: a small sweep chooses each arm's learning rate, then it runs over several "
    "seeds. STUDY is a YAML file, or the bare name of one in configs/studies/. A key=value sets a key of the study "
    "(seeds, only, tuning.rounds …) where there is such a key, else a key of every run.",
    (
        Flag("--resume", "go on with a study, from its folder; finished runs are kept", "FOLDER"),
        Flag("--plan", "print the runs and stop"),
        Flag("--tables", "only tables and figures, of what is finished in a study's folder", "FOLDER"),
        TRUST_CODE,
    ),
    (
        ("methods", "configs/studies/methods.yaml: all methods on the embedded task"),
        ("methods 'only=[zorba, random]' 'seeds=[0]' rounds=20", "two arms of it, quickly"),
        ("clients 'scale.values=[10, 1000]'", "another grid of the number of clients"),
        ("--resume runs/methods-20260101-120000", "go on where it was stopped"),
    ),
    argument="STUDY",
    kinds=lambda: (Study, kind_of("")),
)


def main(argv: Sequence[str] | None = None, name: str = STUDY.name) -> int:
    """The command; its exit status."""
    return enter(replace(STUDY, name=name), argv, run)


def run(command: Command) -> Done:
    """Everything that can be wrong in the study stops here, before anything starts."""
    from zorba_ray.studies.cells import cells

    only_tables, only_plan = "--tables" in command.flags, "--plan" in command.flags
    going_on = command.flags.get("--resume") or command.flags.get("--tables")
    if command.more:
        raise ConfigError(f"{command.more[0]!r} comes after the study {command.config_path!r}: there is only one study")
    trusted = "--trust-code" in command.flags
    begins = not (only_plan or only_tables)
    study, folder = opened(command.config_path, command.overrides, going_on, begins, trusted)
    if only_plan:
        from zorba_ray.report.study_display import plan_lines

        lines = plan_lines(study, cells(study))
        print("\n".join(lines))
        return Done({"plan": lines})
    if not only_tables and carry_out(study, folder):
        print(f"Resume  python -m zorba_ray.study --resume {folder}")
        return Done({"folder": folder, "interrupted": True}, INTERRUPTED)
    text, worked = conclude(study, folder)
    print(text)
    print(f"Report  {folder / 'report.html'}")
    return Done({"folder": folder, "interrupted": False, "worked": worked, "table": text}, 0 if worked else 1)


def opened(
    name: str | None,
    overrides: Sequence[str],
    going_on: str | Path | None = None,
    begins: bool = True,
    trusted: bool = False,
) -> tuple[Study, Path]:
    """The study and its folder: one to go on with, or a new one, whose folder then is there. `trusted`: code that the
    folder names may run."""
    from zorba_ray.studies.cells import cells, refuse_code
    from zorba_ray.studies.store import STUDY as FILE
    from zorba_ray.studies.store import begin, resumed

    if going_on:
        if name or overrides:
            raise ConfigError("a study that was begun keeps its spec; give only its folder")
        study, folder = resumed(Path(going_on)), Path(going_on)
        refuse_code(study, folder / FILE, trusted)
        if begins:
            check_early(study, cells(study))
        return study, folder
    if not name:
        raise ConfigError("name a study: python -m zorba_ray.study methods, or --resume FOLDER")
    study = load_study(find_study(name), overrides)
    folder = Path(study.out or f"runs/{study.name}-{datetime.now():%Y%m%d-%H%M%S}")
    every = cells(study)
    if begins:
        check_early(study, every)
        begin(study, folder)
    return study, folder


def check_early(study: Study, every: Sequence[Cell]) -> None:
    """What a run of some arm would stumble on, before the study's first."""
    from zorba_ray.runs import early

    for cell in every:
        try:
            early.check_early(replace(cell.config, runtime=replace(cell.config.runtime, address=study.address)))
        except ConfigError as error:
            raise ConfigError(f"arm {cell.label!r}: {error}") from None


def carry_out(study: Study, folder: Path, stream: TextIO | None = None) -> bool:
    """All runs that are not yet done; True where the user stopped it. A Ray that is up in this process is left up."""
    import ray

    from zorba_ray.report.study_display import Board
    from zorba_ray.runtime.connect import connect
    from zorba_ray.studies.cells import cells
    from zorba_ray.studies.execute import Sitting, slots

    every = cells(study)
    guest = ray.is_initialized()
    try:
        if not guest:
            connect(study.address)
        with Board(study, every, slots(study), stream) as board:
            board.begin(every, folder)
            Sitting(study, folder, board).carry_out(every)
    except KeyboardInterrupt:
        return True
    finally:
        if not guest:
            ray.shutdown()
    return False


def conclude(study: Study, folder: Path) -> tuple[str, bool]:
    """Tables and figures of what there is; whether anything worked."""
    from zorba_ray.report.study_page import conclude

    return conclude(study, folder)
