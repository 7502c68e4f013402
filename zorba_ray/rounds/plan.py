"""What a round is, before anyone computes: who takes part, along which directions, at which learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import FIRST_ORDER, Config, LocalConfig, StepConfig
from zorba_ray.noise import Direction, Domain, generator


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
    forks: int = 1  # fedspzo: second-part directions for each of the first part, m
    form: str = "joint"  # fedspzo: joint or sequential
    split_at: int = 0  # fedspzo: blocks in the first part; 0: half of them
    split_per_client: bool = False  # fedspzo: in the middle of each client's own active blocks
    pool: int = 0  # fedkseed: directions in the pool
    clip: float = 0.0  # fedkseed: largest |ρ|
    pro: bool = False  # fedkseed: draw by amplitude
    chances: NDArray[np.float64] | None = None  # fedkseed-Pro: of each direction of the pool; None: all alike
    local: LocalConfig = field(default_factory=LocalConfig)  # first-order: how clients train
    exact: bool = False  # fedit: average what adapters add to the weights, not their factors

    def direction(self, p: int, client: int) -> Direction:
        """The p-th direction as client n sees it: everybody's, or its own."""
        own = 0 if self.shared else client + 1
        return Direction(seed=self.seed, round=self.round, direction=p, step=self.step, client=own)


Layout = tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes of the parameters in a block's vector


@dataclass(frozen=True)
class Report:
    """What a client sends back: ρ float32 [local steps · J], local steps outermost (or `vectors`); the rest is measured
    by the simulator and costs no bytes.

    `block_evaluations` counts layers evaluated (trie edges); `seconds` is its share, by FLOPs, of its host's time.
    """

    client: int
    scalars: NDArray[np.float32]
    loss: float
    examples: int
    block_evaluations: int
    flops: float
    seconds: float
    backward_flops: float = 0.0
    vectors: tuple[NDArray[np.float32] | None, ...] | None = None  # first-order: change of each block that it trained
    layout: tuple[Layout, ...] = ()  # first-order, where `vectors` are no changes: what is in them
    status: str = "ok"
    upload: int = 0  # bytes of its message
    measured_bytes: int = 0  # of VRAM, by a client alone under its own cap on a GPU; 0: not measured


def nothing_from(client: int, status: str, examples: int = 0) -> Report:
    """Stands for the report of a client from whom nothing came, and says why."""
    return Report(client, np.zeros(0, np.float32), math.nan, examples, 0, 0.0, 0.0, status=status)


def plan_round(
    config: Config, round: int, participants: Sequence[int] = (), chances: NDArray[np.float64] | None = None
) -> RoundPlan:
    """A round's plan depends on the config and the round's number only, so any round can be planned at any time.

    Two exceptions are given: `participants`, whom the simulated world chooses (`world.world`), and the `chances` of the
    pool's directions, which follow from the ledger (`methods.fedkseed.History`).
    """
    return RoundPlan(
        method=config.method,
        seed=config.seed,
        round=round,
        lr=learning_rate(config.step, round, config.rounds),
        participants=tuple(participants),
        directions=config.zo.directions,
        mu=config.zo.mu,
        shared=config.zo.shared,
        estimator=config.zo.estimator,
        local_steps=config.local.steps if config.method in FIRST_ORDER else config.zo.local_steps,
        aggregate=Rule(config.step.aggregate, config.step.trim, config.step.clip_norm),
        forks=config.split.forks,
        form=config.split.form,
        split_at=config.split.at,
        split_per_client=config.split.per_client,
        pool=config.pool.size,
        clip=config.pool.clip,
        pro=config.pool.draw == "pro",
        chances=chances,
        local=config.local,
        exact=config.fedit.aggregate == "exact",
    )


def draw_participants(seed: int, round: int, count: int, participants: int) -> tuple[int, ...]:
    """Uniformly without replacement; 0 stands for all."""
    if participants in (0, count):
        return tuple(range(count))
    chosen = generator(seed, Domain.PARTICIPANTS, round).choice(count, size=participants, replace=False)
    return tuple(sorted(int(n) for n in chosen))


def learning_rate(step: StepConfig, round: int, rounds: int) -> float:
    """η of a round: linear warm-up to `lr`, then constant, or falling to `final · lr` at the last round."""
    if round < step.warmup:
        return step.lr * (round + 1) / (step.warmup + 1)
    progress = (round - step.warmup) / max(1, rounds - 1 - step.warmup)
    match step.schedule:
        case "constant":
            return step.lr
        case "linear":
            return step.lr * (1 - (1 - step.final) * progress)
        case "cosine":
            return step.lr * (step.final + (1 - step.final) * (1 + math.cos(math.pi * progress)) / 2)
    raise AssertionError(f"unvalidated schedule {step.schedule}")
