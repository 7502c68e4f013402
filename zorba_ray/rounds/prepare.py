"""Everything a run needs before its first round, from the config alone: task, model, shards, budgets, allocation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation import Budgets, Plan, VramModel, client_budgets, instance_from, make_plan, rotated
from zorba_ray.config.schema import Config
from zorba_ray.engine import count_edges
from zorba_ray.ledger import BlockInfo, Header
from zorba_ray.methods import METHODS
from zorba_ray.model import BlockModel, build_model, export_weights, load_model
from zorba_ray.model.shape import model_shape
from zorba_ray.rounds.folder import ALLOCATION
from zorba_ray.rounds.host import Host, vectors_sha256
from zorba_ray.rounds.plan import plan_round
from zorba_ray.tasks import Task, load_task, partition


@dataclass(frozen=True)
class Base:
    """What every host starts from. The arrays inside travel through Ray's object store, once per node."""

    config: Config
    header: Header
    model: Any  # ModelSpec
    weights: dict[str, NDArray[Any]]
    task: Task
    shards: list[NDArray[np.int64]]
    allocation: NDArray[np.bool_]  # a [N, L]
    class_of: NDArray[np.int64]  # [N]

    def active_in(self, round: int) -> NDArray[np.bool_]:
        """a [N, L] of a round: the plan itself, or its turn among clients of equal budget where it is rotated."""
        if self.config.allocation.rotate:
            return rotated(self.allocation, self.class_of, round)
        return self.allocation


@dataclass(frozen=True)
class Prepared:
    """The base, and what only the driver needs of a run."""

    base: Base
    plan: Plan
    budgets: Budgets
    weights: NDArray[np.float64]  # w [N]
    vram: VramModel
    costs: list[int]  # stages that each client's probes evaluate

    @property
    def notes(self) -> list[str]:
        """What the user may want to know before the first round."""
        blocks = self.plan.matrix.sum(axis=1)
        return [
            f"allocation: {self.plan.name}, {blocks.min()} to {blocks.max()} of {self.plan.matrix.shape[1]} blocks a "
            f"client, bound {self.plan.bound:.4g}",
            *self.plan.messages,
        ]

    @property
    def test_examples(self) -> int:
        available = len(self.base.task.test.labels)
        return min(available, self.base.config.evaluation.examples or available)


def load_base_model(config: Config, task: Task) -> BlockModel:
    """The model of a run before its first round; the base that the ledger refers to."""
    loss: Literal["label_words", "vocabulary"] = "vocabulary" if config.task.loss == "vocabulary" else "label_words"
    return load_model(config.model, task.head(loss), seed=config.seed)


def prepare(config: Config, resume: Path | None = None) -> Prepared:
    """Load and allocate. A resumed run takes its allocation from its folder, so that no solver decides a ledger."""
    task = load_task(config.task, config.model, config.seed, config.clients.partition_column)
    model = load_base_model(config, task)
    shards = partition(task.train.labels, task.train.groups, config.clients, config.seed)
    samples = np.array([len(shard) for shard in shards], dtype=np.float64)
    weights = samples if config.step.weights == "samples" else np.ones_like(samples)
    budgets = client_budgets(config.clients, config.seed)
    shape = model_shape(model, config.clients.batch, task.max_tokens)
    instance = instance_from(config, shape, budgets, weights)
    if resume is None:
        plan = make_plan(instance, config.allocation, config.seed)
    else:
        plan = Plan.from_json(json.loads((resume / ALLOCATION).read_text(encoding="utf-8")))
    header = Header(
        method=config.method,
        seed=config.seed,
        noise="rademacher" if config.zo.noise == "rademacher" else "gaussian",
        base_sha256=vectors_sha256([block.vector.numpy() for block in model.blocks]),
        blocks=tuple(BlockInfo(block.name, block.noise_id, block.size) for block in model.blocks),
    )
    base = Base(config, header, model.spec, export_weights(model), task, shards, plan.matrix, budgets.class_of)
    first = plan_round(config, 0)
    probes = METHODS[config.method].probes
    costs = [sum(count_edges(probes(first, n, row), model.columns)) for n, row in enumerate(plan.matrix)]
    return Prepared(base, plan, budgets, weights, instance.vram, costs)


def build_host(base: Base, device: str) -> Host:
    """A host of its own from what the base holds."""
    model = build_model(base.model, base.weights, device)
    return Host(base.config, model, base.header, base.task, base.shards, base.active_in)
