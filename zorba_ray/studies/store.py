"""The folder of a study: which runs are done, and what came of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.ledger import count_rounds, has_header
from zorba_ray.records.schema import EvaluationRecord, to_records
from zorba_ray.records.stream import table
from zorba_ray.runs.folder import CONFIG, LEDGER, make_alone, make_named, write_whole, writing_to
from zorba_ray.runs.lock import Lock
from zorba_ray.studies.cells import RUNS, Cell, Run, sweep_runs
from zorba_ray.studies.choose import Choice, Tried, choose
from zorba_ray.studies.spec import Study, load_study

STUDY, OUTCOME = "study.yaml", "outcome.json"
RATE = re.compile(r"sweep-lr(.+)-seed\d+")  # of a run's folder
KEPT = "runs that are done are kept"


@dataclass(frozen=True)
class Outcome:
    """outcome.json of a run; it is written last, so a run that has one is whole."""

    status: str
    message: str
    seconds: float
    config: str = ""  # digest of what was asked for: config.yaml says what `auto` came to


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


def keep(run: Run, outcome: Outcome, folder: Path) -> Outcome:
    """Write down what came of a run, beside what it left; the last thing to be done of it."""
    place = folder / run.folder
    place.mkdir(parents=True, exist_ok=True)
    outcome = dataclasses.replace(outcome, config=asked(run))
    if not (place / CONFIG).exists():  # it never began
        write_whole(place / CONFIG, to_yaml(run.config))
    write_whole(place / OUTCOME, json.dumps(dataclasses.asdict(outcome), indent=1))
    return outcome


def asked(run: Run) -> str:
    return hashlib.sha256(to_yaml(run.config).encode()).hexdigest()


def read_outcome(place: Path) -> Outcome | None:
    """Of a run's folder; None where there is none, or a torn one."""
    try:
        return Outcome(**json.loads((place / OUTCOME).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def rounds_done(place: Path) -> int:
    """Of a run, under way or not."""
    ledger = place / LEDGER
    return count_rounds(ledger) if has_header(ledger) else 0


def outcome_of(run: Run, folder: Path) -> Outcome | None:
    """What came of a run; None where it is still to be done: never done, with another config, or failed."""
    outcome = read_outcome(folder / run.folder)
    return outcome if outcome and outcome.config == asked(run) and outcome.status != "failed" else None


def tried(run: Run, outcome: Outcome, folder: Path) -> Tried:
    """A run of a sweep, as the choice of the rate sees it."""
    records = to_records(table(folder / run.folder)) if (folder / run.folder / "records").is_dir() else []
    last = max((r for r in records if isinstance(r, EvaluationRecord)), key=lambda r: r.round, default=None)
    return Tried(run.rate, outcome.status, last.accuracy if last else None, last.loss if last else None)


def choice_of(study: Study, cell: Cell, folder: Path) -> Choice | None:
    """The rate of a cell whose sweep is done, from its folders; None where no rate worked or runs are missing."""
    if len(cell.rates) == 1:
        return Choice(cell.rates[0], "")
    sweep = swept(study, cell, folder)
    outcomes = [(run, outcome_or_failed(run, folder)) for run in sweep]
    return choose([tried(run, outcome, folder) for run, outcome in outcomes], study.tuning.metric)


def swept(study: Study, cell: Cell, folder: Path) -> list[Run]:
    """The runs of a cell's sweep: of the grid, or of the rates that a search has tried so far."""
    grid = sweep_runs(study, cell)
    if study.tuning.search == "grid" or not grid:
        return grid
    found = [RATE.fullmatch(path.name) for path in (folder / grid[0].folder.parent).glob("sweep-*")]
    rates = sorted({float(match[1]) for match in found if match})
    return [run for run in sweep_runs(study, cell, rates) if (folder / run.folder).is_dir()]


def outcome_or_failed(run: Run, folder: Path) -> Outcome:
    return outcome_of(run, folder) or Outcome("failed", "not finished", 0.0)
