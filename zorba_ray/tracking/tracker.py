"""What a tracker is, and how a run tells all of its trackers. One that does not answer ends no run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from zorba_ray.config.errors import ConfigError
from zorba_ray.records.schema import EvaluationRecord, RoundRecord

FOLDER = "tracking"  # below a run's: what trackers keep there
KINDS = {"csv": "", "tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb", "trackio": "trackio"}
"""The trackers, each with the library that it needs. The module of the same name has its `open`."""


@dataclass(frozen=True)
class Begun:
    """What a tracker is told when a run begins or goes on."""

    name: str
    folder: Path  # the run's
    config: Mapping[str, str]  # every key by its whole name; text out of the environment as its reference
    rounds: int  # done already: what was told of later ones is told again

    def own(self, name: str) -> Path:
        """A path below the run's folder for what a tracker keeps, its folder made."""
        path = self.folder / FOLDER / name
        path.parent.mkdir(exist_ok=True)
        return path


class Tracker(Protocol):
    """The whole interface. It opens with what `Begun` says."""

    def log(self, rounds: int, values: Mapping[str, float]) -> None:
        """Numbers after so many rounds, by name: the record's kind / its column."""

    def close(self) -> None:
        """All is said."""


def numbers(record: RoundRecord | EvaluationRecord) -> tuple[int, dict[str, float]]:
    """After how many rounds, and the record's numbers by name: round/loss, evaluation/accuracy …"""
    values = {
        f"{record.kind}/{field.name}": getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name != "round" and getattr(record, field.name) is not None
    }
    return record.round + (record.kind == "round"), values


def refuse_absent(names: Sequence[str]) -> None:
    """One line, before anything starts, where a library is missing."""
    for name in names:
        if KINDS[name] and find_spec(KINDS[name]) is None:
            raise ConfigError(
                f"tracking={name} needs {KINDS[name]}, which is not installed here: pip install "
                f"'zorba-ray[{name}]', or leave it out of tracking"
            )


class Trackers:
    """All trackers of a run. One that fails at the beginning is the user's to mend; one that fails later is left out
    from then on, which is said."""

    def __init__(self, names: Sequence[str], begun: Begun):
        self._open: dict[str, Tracker] = {}
        try:
            for name in names:
                self._open[name] = opener(name)(begun)
        except Exception as error:
            self.close()
            raise ConfigError(f"tracking={name} does not begin: {first_line(error)}") from None

    def told(self, record: RoundRecord | EvaluationRecord) -> list[str]:
        """Tell all; what there is to say of those that failed."""
        rounds, values = numbers(record)
        return self._each(lambda tracker: tracker.log(rounds, values), f"after round {rounds}")

    def close(self) -> list[str]:
        said = self._each(lambda tracker: tracker.close(), "at the end")
        self._open = {}
        return said

    def _each(self, call: Callable[[Tracker], None], when: str) -> list[str]:
        said = []
        for name, tracker in list(self._open.items()):
            try:
                call(tracker)
            except Exception as error:  # whatever a library or its network may raise
                del self._open[name]
                said.append(f"tracking: {name} failed {when} and was left out from there ({first_line(error)})")
        return said


def opener(name: str) -> Callable[[Begun], Tracker]:
    """The `open` of a tracker's module, which imports its library."""
    found: Callable[[Begun], Tracker] = import_module(f"zorba_ray.tracking.{name}").open
    return found


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
