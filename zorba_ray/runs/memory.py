"""What each budget class needs of VRAM under a plan, predicted and traced, and what the plan saves. Torch is imported
where something is traced."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zorba_ray.allocation import Instance, Plan, textbook
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.methods import has_gradients
from zorba_ray.runs.folder import write_whole

if TYPE_CHECKING:
    from zorba_ray.model import BlockModel

FILE = "memory.json"  # in a run's folder: its first plan's table
IN_PLACE = "in-place"  # the estimator that perturbs all weights where they lie


@dataclass(frozen=True)
class ClassMemory:
    """The client of a budget class that needs most; bytes."""

    method: str
    name: str  # of the class
    clients: int
    blocks: int  # active ones
    budget: int  # least of the class
    predicted: int
    traced: int
    parts: dict[str, int]  # of what is predicted
    slack: int
    bus: int  # between device and host memory, a round
    saving_against: dict[str, float] = field(default_factory=dict)  # share of what another way would need

    def to_json(self) -> dict[str, Any]:
        return {"class" if name == "name" else name: value for name, value in asdict(self).items()}


def memory_by_class(
    config: Config, instance: Instance, plan: Plan, model: BlockModel, tokens: int
) -> list[ClassMemory]:
    """A row for each class that has clients."""
    from zorba_ray.rounds.rehearsal import rehearse

    used, found = instance.budgets - plan.slack, []
    for name, members in zip(instance.class_names, instance.members, strict=True):
        if not len(members):
            continue
        most = int(members[int(np.argmax(used[members]))])
        row, predicted = plan.matrix[most], float(used[most])
        traced = rehearse(config, model, row, tokens)
        saving = {}
        if not has_gradients(config) and config.model.trainable == "full":
            saving[IN_PLACE] = 1 - predicted / float(textbook(instance.vram).of(row))
        found.append(
            ClassMemory(
                method=config.method,
                name=name,
                clients=len(members),
                blocks=int(row.sum()),
                budget=int(instance.budgets[members].min()),
                predicted=int(predicted),
                traced=traced.peak,
                parts={part: int(size) for part, size in instance.vram.split(row).items()},
                slack=int(plan.slack[members].min()),
                bus=traced.report.bus,
                saving_against=saving,
            )
        )
    return found


def compared(rows: Sequence[ClassMemory]) -> list[ClassMemory]:
    """With what each saves against the other methods in its class."""
    return [
        replace(row, saving_against=row.saving_against | {
            other.method: 1 - row.predicted / other.predicted
            for other in rows
            if other.name == row.name and other.method != row.method
        })
        for row in rows
    ]  # fmt: skip


def write_memory(rows: Sequence[ClassMemory], folder: Path) -> None:
    write_whole(folder / FILE, json.dumps([row.to_json() for row in rows], indent=1) + "\n")


def read_memory(folder: Path) -> list[ClassMemory]:
    """The table of a run; empty where none was made: it was interrupted, or nobody wanted its report."""
    path = folder / FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [ClassMemory(name=row.pop("class"), **row) for row in rows]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged; remove it, and the report does without") from None
