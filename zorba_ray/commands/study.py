"""`python -m zorba_ray.study STUDY [key=value …]`: many runs, one table and one set of figures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from zorba_ray.commands.entry import INTERRUPTED, enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.config.errors import ConfigError
from zorba_ray.studies.spec import Study, find_study, load_study

STUDY = Program(
    "python -m zorba_ray.study",
    "Compare named arms on the same data: a small sweep chooses each arm's learning rate, then it runs over several "
    "seeds. STUDY is a YAML file, or the bare name of one in configs/studies/. A key=value sets a key of the study "
    "(seeds, only, tuning.rounds …) where there is such a key, else a key of every run.",
    (
        Flag("--resume", "go on with a study, from its folder; finished runs are kept", "FOLDER"),
        Flag("--plan", "print the runs and stop"),
        Flag("--tables", "only tables and figures, of what is finished in a study's folder", "FOLDER"),
    ),
    (
        ("methods", "configs/studies/methods.yaml: all methods on the embedded task"),
        ("methods 'only=[zorba, random]' 'seeds=[0]' rounds=20", "two arms of it, quickly"),
        ("clients 'scale.values=[10, 1000]'", "another grid of the number of clients"),
        ("--resume runs/methods-20260101-120000", "go on where it was stopped"),
    ),
    argument="STUDY",
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    return enter(STUDY, argv, run)


def run(command: Command) -> int:
    """Everything that can be wrong in the study stops here, before anything starts."""
    from zorba_ray.studies.plan import cells
    from zorba_ray.studies.store import begin, resumed

    going_on = command.flags.get("--resume") or command.flags.get("--tables")
    if going_on:
        if command.config_path or command.overrides or command.more:
            raise ConfigError("a study that was begun keeps its spec; give only its folder")
        folder = Path(going_on)
        study = resumed(folder)
    elif command.more:
        raise ConfigError(f"{command.more[0]!r} comes after the study {command.config_path!r}: there is only one study")
    elif command.config_path:
        study = load_study(find_study(command.config_path), command.overrides)
        folder = Path(study.out or f"runs/{study.name}-{datetime.now():%Y%m%d-%H%M%S}")
    else:
        raise ConfigError("name a study: python -m zorba_ray.study methods, or --resume FOLDER")
    every = cells(study)
    if "--plan" in command.flags:
        from zorba_ray.report.study_display import plan_lines

        print("\n".join(plan_lines(study, every)))
        return 0
    if "--tables" not in command.flags:
        if not going_on:
            begin(study, folder)
        if carry_out(study, folder):
            print(f"Resume  python -m zorba_ray.study --resume {folder}")
            return INTERRUPTED
    return conclude(study, folder)


def carry_out(study: Study, folder: Path) -> bool:
    """All runs that are not yet done; True where the user stopped it."""
    import ray

    from zorba_ray.report.study_display import Board
    from zorba_ray.runtime.connect import connect
    from zorba_ray.studies.execute import Sitting, slots
    from zorba_ray.studies.plan import cells

    every = cells(study)
    try:
        connect(study.address)
        with Board(study, every, slots(study)) as board:
            board.begin(every, folder)
            Sitting(study, folder, board).carry_out(every)
    except KeyboardInterrupt:
        return True
    finally:
        ray.shutdown()
    return False


def conclude(study: Study, folder: Path) -> int:
    """Tables and figures of what there is; 1 where nothing worked at all."""
    from zorba_ray.report.study_page import conclude

    text, worked = conclude(study, folder)
    print(text)
    print(f"Report  {folder / 'report.html'}")
    return 0 if worked else 1

