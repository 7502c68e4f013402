"""What a round is, before anyone computes: who takes part, along which directions, at which learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zorba_ray.config.schema import Config, StepConfig
from zorba_ray.messages import RoundPlan, Rule
from zorba_ray.methods import local_steps
from zorba_ray.noise import Domain, generator


def plan_round(config: Config, round: int, participants: Sequence[int] = (), memory: Any = None) -> RoundPlan:
    """A round's plan depends on the config and the round's number only, so any round can be planned at any time.

    Two exceptions are given: `participants`, whom the simulated world chooses (`world.world`), and what the method's
    `memory` of the ledger tells (`methods.method.Memory`).
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
        local_steps=local_steps(config),
        aggregate=Rule(config.step.aggregate, config.step.trim, config.step.clip_norm),
        options=config.options,
        memory=memory,
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
