"""What a round is, before anyone computes: who takes part, along which directions, at which learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import FIRST_ORDER, Config, StepConfig
from zorba_ray.messages import RoundPlan, Rule
from zorba_ray.noise import Domain, generator


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
