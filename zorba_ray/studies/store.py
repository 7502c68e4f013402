"""The folder of a study: which runs are done, and what came of each."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.records.schema import EvaluationRecord, to_records
from zorba_ray.records.stream import table
from zorba_ray.runs.folder import CONFIG, make_alone, make_named, write_whole, writing_to
from zorba_ray.runs.lock import Lock
from zorba_ray.studies.carry import Carried
from zorba_ray.studies.cells import RUNS, Cell, Run, sweep_runs
from zorba_ray.studies.choose import Choice, Tried, choose
from zorba_ray.studies.spec import Study, load_study

STUDY, OUTCOME = "study.yaml", "outcome.json"
KEPT = "runs that are done are kept"


@dataclass(frozen=True)
class Outcome:
    """outcome.json of a run; it is written last, so a run that has one is whole."""

    status: str
    message: str
    seconds: float


@contextmanager
def begun(study: Study) -> Iterator[Path]:
    """The folder of a new study, with its spec, this process's own until it leaves; a mistake that comes to light
    before its first run leaves nothing. A new study never writes over another one."""
    wanted = Path(study.out or f"runs/{study.name}-{datetime.now():%Y%m%d-%H%M%S}")
    if study.out:
        refuse_used(wanted)
    folder = make_named(wanted) if study.out else make_alone(wanted)
    lock = locked(folder)
    try:
        refuse_used(folder)
        text = yaml.safe_dump(dataclasses.asdict(study), sort_keys=False, allow_unicode=True)
        with writing_to(folder, KEPT, study_line(folder)):
            write_whole(folder / STUDY, text)
        try:
            yield folder
        except ConfigError:
            if not (folder / RUNS).exists():
                (folder / STUDY).unlink(missing_ok=True)
            raise
    finally:
        lock.release()
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def again(folder: Path) -> Iterator[Study]:
    """The study that a folder was begun with, this process's own until it leaves."""
    study = resumed(folder)
    lock = locked(folder)
    try:
        yield study
    finally:
        lock.release()


def locked(folder: Path) -> Lock:
    with writing_to(folder, KEPT, study_line(folder)):
        return Lock(folder)


def refuse_used(folder: Path) -> None:
    if (folder / STUDY).exists():
        raise ConfigError(f"{folder} holds a study; go on with it by --resume {folder}, or choose another `out`")


def study_line(folder: Path) -> str:
    """The command that goes on with a study."""
    return f"python -m zorba_ray.study --resume {shlex.quote(str(folder))}"


def resumed(folder: Path) -> Study:
    """The study that a folder was begun with."""
    if not (folder / STUDY).is_file():
        raise ConfigError(f"{folder} has no {STUDY}: it is not the folder of a study")
    return load_study(folder / STUDY)


def keep(run: Run, carried: Carried, folder: Path) -> Outcome:
    """Put a run's files where they belong, whole or not at all."""
    place = folder / run.folder
    outcome = Outcome(carried.status, carried.message, carried.seconds)
    waiting = place.with_name(f".{place.name}.tmp")
    for old in (waiting, place):
        if old.exists():
            shutil.rmtree(old)
    for name, content in carried.files.items():
        path = waiting / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    waiting.mkdir(parents=True, exist_ok=True)
    (waiting / CONFIG).write_text(to_yaml(run.config), encoding="utf-8")
    (waiting / OUTCOME).write_text(json.dumps(dataclasses.asdict(outcome), indent=1), encoding="utf-8")
    waiting.replace(place)
    return outcome


def outcome_of(run: Run, folder: Path) -> Outcome | None:
    """What came of a run; None where it is still to be done: never done, with another config, or failed."""
    place = folder / run.folder
    try:
        outcome = Outcome(**json.loads((place / OUTCOME).read_text(encoding="utf-8")))
        same = (place / CONFIG).read_text(encoding="utf-8") == to_yaml(run.config)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return outcome if same and outcome.status != "failed" else None


def tried(run: Run, outcome: Outcome, folder: Path) -> Tried:
    """A run of a sweep, as the choice of the rate sees it."""
    records = to_records(table(folder / run.folder)) if (folder / run.folder / "records").is_dir() else []
    last = max((r for r in records if isinstance(r, EvaluationRecord)), key=lambda r: r.round, default=None)
    return Tried(run.rate, outcome.status, last.accuracy if last else None, last.loss if last else None)


def choice_of(study: Study, cell: Cell, folder: Path) -> Choice | None:
    """The rate of a cell whose sweep is done, from its folders; None where no rate worked or runs are missing."""
    sweep = sweep_runs(study, cell)
    if not sweep:
        return Choice(cell.rates[0], "")
    outcomes = [(run, outcome_or_failed(run, folder)) for run in sweep]
    return choose([tried(run, outcome, folder) for run, outcome in outcomes], study.tuning.metric)


def outcome_or_failed(run: Run, folder: Path) -> Outcome:
    return outcome_of(run, folder) or Outcome("failed", "not finished", 0.0)
