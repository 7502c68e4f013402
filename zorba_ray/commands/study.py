"""`python -m zorba_ray.study STUDY [key=value …]`: many runs, one table and one set of figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import TRUST_CODE, Command, Flag, Program
from zorba_ray.commands.signals import Signals, in_order
from zorba_ray.config.errors import ConfigError
from zorba_ray.methods import kind_of
from zorba_ray.studies.spec import Study, find_study, load_study

if TYPE_CHECKING:
    from zorba_ray.studies.cells import Cell

GLANCE = 1.0  # seconds between two looks at another process's study

STUDY = Program(
    "python -m zorba_ray.study",
    "Compare named arms on the same data: a small sweep chooses each arm's learning rate, then it runs over several "
    "seeds. STUDY is a YAML file, or the bare name of one in configs/studies/. A key=value sets a key of the study "
    "(seeds, only, tuning.rounds …) where there is such a key, else a key of every run.",
    (
        Flag("--resume", "go on with a study, from its folder; finished runs are kept", "FOLDER"),
        Flag("--plan", "print the runs and stop"),
        Flag("--watch", "show how far the study in a folder is, until nobody carries it on", "FOLDER"),
        Flag("--dry-run", "try a client of each arm, print what all runs take (FLOPs, core-hours, disk), and stop"),
        Flag("--tables", "only tables and figures, of what is finished in a study's folder", "FOLDER"),
        TRUST_CODE,
    ),
    (
        ("methods", "configs/studies/methods.yaml: all methods on the embedded task"),
        ("methods 'only=[zorba, random]' 'seeds=[0]' rounds=20", "two arms of it, quickly"),
        ("clients 'scale.values=[10, 1000]'", "another grid of the number of clients"),
        ("methods --dry-run", "how many runs, FLOPs and core-hours it is"),
        ("--resume runs/methods-20260101-120000", "go on where it was stopped"),
        ("--watch runs/methods-20260101-120000", "how far it is, from another terminal"),
        ("methods tuning.by=tune tuning.scheduler=asha", "the sweeps by Ray Tune"),
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

    if command.more:
        raise ConfigError(f"{command.more[0]!r} comes after the study {command.config_path!r}: there is only one study")
    name, overrides, flags = command.config_path, command.overrides, command.flags
    trusted = "--trust-code" in flags
    if "--plan" in flags:
        from zorba_ray.report.study_display import plan_lines

        study = asked(name, overrides)
        lines = plan_lines(study, cells(study))
        print("\n".join(lines))
        return Done({"plan": lines})
    if "--dry-run" in flags:
        study = asked(name, overrides)
        return takes(study, cells(study))
    if "--tables" in flags:
        refuse_keys(name, overrides)
        study, folder = opened_for_reading(Path(flags["--tables"]), trusted)
        return tell(folder, *conclude(study, folder))
    if "--watch" in flags:
        refuse_keys(name, overrides)
        return watch(*opened_for_reading(Path(flags["--watch"]), trusted))
    signals = Signals(go_on=go_on)
    return in_order(signals, lambda: sit(name, overrides, flags.get("--resume"), trusted, signals))


def takes(study: Study, every: Sequence[Cell]) -> Done:
    """Say what the study takes."""
    from zorba_ray.report.study_display import compute_lines
    from zorba_ray.studies.compute import compute_of

    rows = [compute_of(study, cell) for cell in every]
    print("\n".join(compute_lines(rows)), flush=True)
    return Done({"compute": [asdict(row) for row in rows]})


def opened_for_reading(folder: Path, trusted: bool) -> tuple[Study, Path]:
    """The study of a folder, to make its tables again."""
    from zorba_ray.studies.cells import refuse_code
    from zorba_ray.studies.store import STUDY as FILE
    from zorba_ray.studies.store import resumed

    study = resumed(folder)
    refuse_code(study, folder / FILE, trusted)
    return study, folder


def watch(study: Study, folder: Path) -> Done:
    """A table that is told again whenever something came of the study, on a terminal in its place."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from zorba_ray.report.study_display import watch_text
    from zorba_ray.runs.lock import is_held
    from zorba_ray.studies.cells import cells
    from zorba_ray.studies.watch import look

    every, shown, console = cells(study), "", Console(highlight=False, soft_wrap=True)
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            goes_on = is_held(folder)  # before the last look: what came just before the end is there
            found = look(study, every, folder)
            text = watch_text(found)
            if text != shown and live is not None:
                live.update(Text(text), refresh=True)
            elif text != shown:
                print(text, flush=True)
            shown = text
            if not goes_on:
                break
            time.sleep(GLANCE)
    over = all(each.over for each in found)
    print("Nothing is left to do" if over else f"Nobody carries it on now; {go_on(folder)}")
    return Done({"folder": folder, "over": over, "table": shown})


def sit(name: str | None, overrides: Sequence[str], going_on: str | None, trusted: bool, signals: Signals) -> Done:
    """A sitting of a study, new or not, to its end. A new one that is much work says how much, before it starts."""
    from zorba_ray.studies.cells import cells
    from zorba_ray.studies.compute import is_much

    with opened(name, overrides, going_on, trusted) as (study, folder):
        signals.folder, signals.begun = folder, True
        if not going_on and is_much(study, every := cells(study)):
            takes(study, every)
        carry_out(study, folder)
        told = conclude(study, folder)
    return tell(folder, *told)


def tell(folder: Path, text: str, worked: bool) -> Done:
    print(text)
    print(f"Report  {folder / 'report.html'}")
    return Done({"folder": folder, "interrupted": False, "worked": worked, "table": text}, 0 if worked else 1)


def go_on(folder: Path) -> str:
    from zorba_ray.studies.store import study_line

    return f"Runs that are done are kept; go on by  {study_line(folder)}"


@contextmanager
def opened(
    name: str | None, overrides: Sequence[str], going_on: str | Path | None = None, trusted: bool = False
) -> Iterator[tuple[Study, Path]]:
    """The study and its folder, this process's own while it lasts: one to go on with, or a new one. `trusted`: code
    that the folder names may run."""
    from zorba_ray.studies.cells import cells, refuse_code
    from zorba_ray.studies.store import STUDY as FILE
    from zorba_ray.studies.store import again, begun

    if going_on:
        refuse_keys(name, overrides)
        with again(Path(going_on)) as study:
            refuse_code(study, Path(going_on) / FILE, trusted)
            check_early(study, cells(study))
            yield study, Path(going_on)
    else:
        study = asked(name, overrides)
        check_early(study, cells(study))
        with begun(study) as folder:
            yield study, folder


def asked(name: str | None, overrides: Sequence[str]) -> Study:
    """The study that a line means, if all of its runs can be."""
    from zorba_ray.studies.cells import cells

    if not name:
        raise ConfigError("name a study: python -m zorba_ray.study methods, or --resume FOLDER")
    study = load_study(find_study(name), overrides)
    cells(study)
    return study


def refuse_keys(name: str | None, overrides: Sequence[str]) -> None:
    if name or overrides:
        raise ConfigError("a study that was begun keeps its spec; give only its folder")


def check_early(study: Study, every: Sequence[Cell]) -> None:
    """What a run of some arm would stumble on, before the study's first."""
    from zorba_ray.runs import early

    if study.tuning.search == "optuna" and find_spec("optuna") is None:
        raise ConfigError("tuning.search=optuna needs Optuna, which is not installed: pip install optuna")

    for cell in every:
        try:
            early.check_early(replace(cell.config, runtime=replace(cell.config.runtime, address=study.address)))
        except ConfigError as error:
            raise ConfigError(f"arm {cell.label!r}: {error}") from None


def carry_out(study: Study, folder: Path, stream: TextIO | None = None) -> None:
    """All runs that are not yet done. A Ray that is up in this process is left up."""
    import ray

    from zorba_ray.report.study_display import Board
    from zorba_ray.runs.folder import writing_to
    from zorba_ray.runtime.connect import connect
    from zorba_ray.studies import tuned
    from zorba_ray.studies.cells import cells
    from zorba_ray.studies.execute import Sitting, slots
    from zorba_ray.studies.store import KEPT, study_line

    every = cells(study)
    guest = ray.is_initialized()
    try:
        if not guest:
            connect(study.address)
        with Board(study, every, slots(study), stream) as board:
            board.begin(every, folder)
            with writing_to(folder, KEPT, study_line(folder)):
                if study.tuning.by == "tune":
                    tuned.sweep(study, every, folder, board, slots(study))
                Sitting(study, folder, board).carry_out(every)
    finally:
        if not guest:
            ray.shutdown()


def conclude(study: Study, folder: Path) -> tuple[str, bool]:
    """Tables and figures of what there is; whether anything worked."""
    from zorba_ray.report.study_page import conclude
    from zorba_ray.runs.folder import writing_to
    from zorba_ray.studies.store import KEPT, study_line

    with writing_to(folder, KEPT, study_line(folder)):
        return conclude(study, folder)
