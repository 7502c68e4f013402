"""What each budget class needs of VRAM under a plan, predicted and traced, and what the plan saves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from zorba_ray.allocation import Instance, Plan, textbook
from zorba_ray.config.schema import Config
from zorba_ray.methods import has_gradients
from zorba_ray.model import BlockModel
from zorba_ray.rounds.rehearsal import rehearse

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


def memory_by_class(
    config: Config, instance: Instance, plan: Plan, model: BlockModel, tokens: int
) -> list[ClassMemory]:
    """A row for each class that has clients."""
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


def compared(rows: list[ClassMemory]) -> list[ClassMemory]:
    """With what each saves against the other methods in its class."""
    return [
        ClassMemory(**{
            **vars(row),
            "saving_against": row.saving_against | {
                other.method: 1 - row.predicted / other.predicted
                for other in rows
                if other.name == row.name and other.method != row.method
            },
        })
        for row in rows
    ]  # fmt: skip
