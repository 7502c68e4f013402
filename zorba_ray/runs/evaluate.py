"""A run's model, at any round, on other data than it was evaluated on: another file, another task, more examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger import read_ledger
from zorba_ray.rounds.host import Host
from zorba_ray.rounds.local import LocalBackend
from zorba_ray.rounds.loop import evaluated_after
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.past import read_past
from zorba_ray.runs.replay import Rounds, replayed_on
from zorba_ray.tasks import evaluation_draw, load_task

SECTIONS = ("task", "evaluation")  # whose keys say what is evaluated on


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and mean loss after `rounds` rounds on `examples` examples of `task`; `recorded`: the run's own, if it
    evaluated then."""

    rounds: int
    task: str
    examples: int
    accuracy: float
    loss: float
    recorded: tuple[float, float] | None


def evaluate(folder: Path, rounds: Rounds = None, keys: Sequence[str] = ()) -> Evaluation:
    """`keys` as key=value, of task and evaluation; without any on the run's own test data."""
    for key in keys:
        if key.partition("=")[0].partition(".")[0] not in SECTIONS:
            raise ConfigError(f"{key}: a run is evaluated as it is; only keys of {' and '.join(SECTIONS)} may be given")
    config = stored_config(folder, keys)
    column = config.clients.partition_column
    task = load_task(config.task, config.model, config.seed, column, config.evaluation.data)
    task = replace(task, test=evaluation_draw(task.test, config.evaluation.examples, config.seed))
    made = replayed_on(folder, rounds, config, task)
    host = Host(config, made.model, read_ledger(folder / LEDGER).header, task, [])
    found = evaluated_after(made.rounds, LocalBackend(host, len(task.test)).evaluate())
    own = [row for row in read_past(folder).evaluations.to_pylist() if row["round"] == made.rounds]
    recorded = (own[0]["accuracy"], own[0]["loss"]) if own else None
    return Evaluation(made.rounds, config.task.name, found.examples, found.accuracy, found.loss, recorded)
