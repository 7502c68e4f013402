"""A round's plan: what the server tells every client before anyone computes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from zorba_ray.noise import Direction


@dataclass(frozen=True)
class Rule:
    """How clients' values become one, see `methods.average`."""

    name: str = "mean"  # mean, median, trimmed or clipped
    trim: float = 0.0  # trimmed: share of the weight that is cut at each end
    clip_norm: float = math.inf  # clipped: longest vector of one client


MEAN = Rule()


@dataclass(frozen=True)
class RoundPlan:
    """All that a client must know of a round; `participants` are client numbers in ascending order."""

    method: str
    seed: int
    round: int
    lr: float
    participants: tuple[int, ...]
    directions: int
    mu: float
    shared: bool
    estimator: str
    step: int = 0  # local step: tells directions of one round apart
    batch: int = 0  # which of the round's mini-batches
    local_steps: int = 1  # of each client in a round; above 1 a client moves by itself between them
    aggregate: Rule = MEAN  # how the clients' values become one
    options: Any = None  # the keys of the method's own
    memory: Any = None  # what the method told of the ledger so far (`methods.method.Memory`)

    def direction(self, p: int, client: int) -> Direction:
        """The p-th direction as client n sees it: everybody's, or its own."""
        own = 0 if self.shared else client + 1
        return Direction(seed=self.seed, round=self.round, direction=p, step=self.step, client=own)
