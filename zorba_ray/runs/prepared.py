"""What the driver must know of a run before its first round. No torch: who loads model and data sends an outline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation import Budgets, Instance
from zorba_ray.config.schema import Config
from zorba_ray.engine import count_edges
from zorba_ray.messages import Header
from zorba_ray.methods import FirstOrder, method_of
from zorba_ray.rounds.allocator import Allocator
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.dealt import Dealt
from zorba_ray.runs.exposure import Exposure
from zorba_ray.runs.plans import read_plans


@dataclass(frozen=True)
class Outline:
    """Of a run's model and data, what decides the allocation and what the records want."""

    header: Header
    instance: Instance
    budgets: Budgets
    weights: NDArray[np.float64]  # w [N]
    dealt: Dealt  # who has which data
    scales: NDArray[np.float64]  # root mean square of each block's trainable numbers, [L]
    columns: list[int | None]  # of the model's stages
    test_examples: int
    exposure: Exposure | None  # of clients to kinds of test data; None for language modelling
    guess: tuple[float, float] | None  # accuracy and loss of the best single answer to all test examples
    notes: list[str]  # what the user should know before the first round
    precision: str  # that model.precision came to

    @property
    def samples(self) -> NDArray[np.float64]:
        """Examples of each client, [N]."""
        return self.dealt.sizes.astype(np.float64)


@dataclass(frozen=True)
class Prepared:
    """The base that hosts start from (or the reference to it in Ray's object store), its outline, and who allocates."""

    config: Config
    base: Any
    outline: Outline
    allocator: Allocator

    def cost(self, row: bytes) -> int:
        """Stages that a client with this row of a[n, l] evaluates in a round; a backward counts as two forwards."""
        active, plan = np.frombuffer(row, dtype=np.bool_), plan_round(self.config, 0)
        method = method_of(self.config)
        if isinstance(method, FirstOrder):
            return plan.local_steps * (len(self.outline.columns) + 2 * (len(active) - int(active.argmax())))
        return plan.local_steps * sum(count_edges(method.probes(plan, 0, active), self.outline.columns))

    @property
    def test_examples(self) -> int:
        return self.outline.test_examples


def settled(config: Config, outline: Outline) -> Config:
    """The config of a run whose model was read: it says the precision that `auto` came to."""
    return replace(config, model=replace(config.model, precision=outline.precision))


def allocated(config: Config, base: Any, outline: Outline, resume: Path | None) -> Prepared:
    """Solve the allocation. A resumed run takes it from its folder, so that no solver decides a ledger."""
    config = settled(config, outline)
    allocator = Allocator(config, outline.instance, read_plans(resume) if resume else None)
    allocator.begin()
    return Prepared(config, base, outline, allocator)
