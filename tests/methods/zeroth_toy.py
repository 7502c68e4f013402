"""A toy of four blocks with a loss of its own for each client and mini-batch, probed in NumPy by a method's paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from zorba_ray.ledger import replay
from zorba_ray.messages import BlockInfo, Header, Report, RoundPlan, Step
from zorba_ray.methods import METHODS, ZeroOrder
from zorba_ray.noise import Direction, combine_reference, sample

SEED = 11
BLOCKS = (BlockInfo("a", 1, 9), BlockInfo("b", 2, 5), BlockInfo("c", 3, 7), BlockInfo("d", 4, 4))
HEADER = Header("toy", SEED, "gaussian", "00" * 32, BLOCKS)
Theta = list[np.ndarray]  # float32, one vector a block


def start() -> Theta:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(block.size).astype(np.float32) for block in BLOCKS]


def loss(theta: Theta, client: int, k: int) -> float:
    """Not quadratic, different for each client and local step."""
    rng = np.random.default_rng([client, k])
    flat = np.concatenate(theta).astype(np.float64)
    target, mix = rng.standard_normal(flat.size), rng.standard_normal((flat.size, flat.size)) / 5
    return float(np.log1p(((mix @ (flat - target)) ** 2).sum()))


@lru_cache(maxsize=4096)
def z(block: BlockInfo, direction: int, round: int = 0, step: int = 0, client: int = 0) -> np.ndarray:
    return sample(Direction(SEED, round, direction, step, client), block.noise_id, block.size, "gaussian")


def moved(theta: Theta, terms: Sequence[Sequence[tuple[float, np.ndarray]]]) -> Theta:
    """θ_l + Σ c z in float32, products summed in order."""
    out = []
    for vector, row in zip(theta, terms, strict=True):
        total = np.float32(0)
        for c, direction in row:
            total = total + np.float32(c) * direction
        out.append(vector + total if row else vector)
    return out


SMALLER = {"fedkseed": {"size": 16}}


def plan_of(method: str, options: dict[str, object] | None = None, **changes: object) -> RoundPlan:
    kind = METHODS[method].options
    own = kind(**{**SMALLER.get(method, {}), **(options or {})}) if kind else None
    plan = RoundPlan(
        method=method, seed=SEED, round=3, lr=0.05, participants=(0, 1, 2), directions=4, mu=0.01, shared=True,
        estimator="central", options=own,
    )
    return replace(plan, **changes)


def report(client: int, scalars: np.ndarray) -> Report:
    return Report(client, scalars, 0.0, 1, 1, 1.0, 1.0)


def run_round(plan: RoundPlan, theta: Theta, active: np.ndarray, weights: np.ndarray) -> tuple[Step, list[Report]]:
    """A round by the method's own functions, as a host would call them."""
    method = METHODS[plan.method]
    assert isinstance(method, ZeroOrder)
    reports = []
    for n in plan.participants:
        here, collected = [vector.copy() for vector in theta], []
        for k in range(plan.local_steps):
            local = replace(plan, step=k)
            losses = []
            for path in method.probes(local, n, active[n]):
                versions = zip(here, path, BLOCKS, strict=True)
                shown = [combine_reference(base, v, b.noise_id, "gaussian") if v else base for base, v, b in versions]
                losses.append(loss(shown, n, k))
            rho = method.scalars(local, np.array(losses))
            collected.append(rho)
            alone = np.zeros_like(active)
            alone[n] = active[n]
            here = applied(here, method.step(local, [report(n, rho)], alone, np.ones(len(active))))
        reports.append(report(n, np.concatenate(collected)))
    return method.step(plan, reports, active, weights), reports


def applied(theta: Theta, step: Step) -> Theta:
    vectors = [torch.from_numpy(vector.copy()) for vector in theta]
    replay(vectors, HEADER, [step])
    return [vector.numpy() for vector in vectors]
