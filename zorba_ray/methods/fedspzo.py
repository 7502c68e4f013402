"""FedSPZO, our reading: the model is split in two; each perturbed first part is run once and forked into several
perturbed second parts, so the expensive prefix is shared and the second part sees more directions.

P scalars a client, m forks, P₁ = P/m pairs of first parts. The first part of pair i moves along direction i·m, the
second part of its fork j along direction i·m + j. With heterogeneous activation a part is the client's active blocks in
it, and with a split per client each client has its own parts: both papers' ideas together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine import CLEAN, Path
from zorba_ray.messages import Report, RoundPlan, SharedStep, Step
from zorba_ray.methods.average import block_coefficients
from zorba_ray.methods.split import FIRST, SECOND, Split


def split_of(plan: RoundPlan) -> Split:
    return Split(plan.directions, plan.forks, plan.split_at, plan.split_per_client, plan.form)


def probes(plan: RoundPlan, client: int, active: NDArray[np.bool_]) -> tuple[Path, ...]:
    """joint: `θ₁ ± μ z_{i·m}, θ₂ ± μ z_{i·m+j}` for every pair i and fork j, with equal signs. sequential:
    `θ₁ ± μ z_{i·m}` with a clean second part, then `θ₂ ± μ z_p` behind a clean first part."""
    where = split_of(plan).parts(active)

    def path(first: int | None, second: int | None, s: float) -> Path:
        chosen = {0: None, FIRST: first, SECOND: second}
        directions = [chosen[int(part)] for part in where]
        return tuple(CLEAN if p is None else ((plan.direction(p, client), s),) for p in directions)

    everyone, signs = range(plan.directions), (plan.mu, -plan.mu)
    if plan.form == "joint":
        return tuple(path(p - p % plan.forks, p, s) for p in everyone for s in signs)
    first = [path(p, None, s) for p in everyone[:: plan.forks] for s in signs]
    return (*first, *(path(None, p, s) for p in everyone for s in signs))


def scalars(plan: RoundPlan, losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """ρ = (L₊ − L₋)/2μ of each pair of `probes`: joint [P], forks innermost; sequential [P₁ + P]."""
    plus, minus = losses.reshape(-1, 2).T
    return np.asarray((plus - minus) / (2 * plan.mu), dtype=np.float32)


def contributions(plan: RoundPlan, rho: NDArray[np.float64]) -> NDArray[np.float64]:
    """r [2, C, local steps · P] of the clients' scalars `rho` [C, local steps · J], for blocks of the first and of the
    second part: `θ₂ ← θ₂ − (η/P) Σ_p ρ_p z_p`, `θ₁ ← θ₁ − (η/P₁) Σ_i ρ̄_i z_{i·m}` with ρ̄_i the mean over i's forks, or
    in the sequential form the scalar of pair i itself."""
    clients, m = len(rho), plan.forks
    pairs = plan.directions // m
    if plan.form == "joint":
        second = rho.reshape(clients, -1, pairs, m)
        first = second.sum(axis=-1)
    else:
        steps = rho.reshape(clients, -1, pairs + plan.directions)
        first, second = m * steps[..., :pairs], steps[..., pairs:]
    spread = np.zeros((clients, first.shape[1], pairs, m))
    spread[..., 0] = first
    return np.stack([spread.reshape(clients, -1), second.reshape(clients, -1)])


def step(
    plan: RoundPlan, reports: Sequence[Report], active: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Step:
    """`c[l,·] = Σ_n w_n r_n[l,·] / Σ_n w_n` over the participants that have block l active."""
    members = [report.client for report in reports]
    rho = np.stack([report.scalars for report in reports]).astype(np.float64)
    values = contributions(plan, rho)
    c = block_coefficients(plan.aggregate, split_of(plan).parts(active[members]), weights[members], values)
    return SharedStep(plan.round, plan.lr, c, per=plan.directions, first=plan.step)
