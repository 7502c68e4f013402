"""ZorBA, our reading: every client probes its active blocks along the round's directions; a block moves by the
average of the scalars of the clients that have it active."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine import CLEAN, Path
from zorba_ray.ledger.step import PrivateStep, SharedStep, Step
from zorba_ray.rounds.plan import Report, RoundPlan


def probes(plan: RoundPlan, client: int, active: NDArray[np.bool_]) -> tuple[Path, ...]:
    """`θ ± μ z_p` with z_p masked to the client's active blocks; one-sided, the clean path comes first."""

    def path(p: int, s: float) -> Path:
        version = ((plan.direction(p, client), s),)
        return tuple(version if on else CLEAN for on in active)

    if plan.estimator == "forward":
        clean: Path = (CLEAN,) * len(active)
        return (clean, *(path(p, plan.mu) for p in range(plan.directions)))
    return tuple(path(p, s) for p in range(plan.directions) for s in (plan.mu, -plan.mu))


def scalars(plan: RoundPlan, losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """ρ [P] from the losses of `probes`: (L₊ − L₋)/2μ, or (L₊ − L₀)/μ."""
    if plan.estimator == "forward":
        return np.asarray((losses[1:] - losses[0]) / plan.mu, dtype=np.float32)
    plus, minus = losses.reshape(plan.directions, 2).T
    return np.asarray((plus - minus) / (2 * plan.mu), dtype=np.float32)


def step(
    plan: RoundPlan, reports: Sequence[Report], active: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Step:
    """`c[l,p] = Σ_{n∈A_l} w_n ρ[n,p] / Σ_{n∈A_l} w_n` over the round's participants; a block nobody has stays.

    `active` a [N, L], `weights` w [N]. Clients are added one after the other in ascending order, so the sum has the
    same bits wherever it is computed.
    """
    if not plan.shared:
        members = np.array([report.client for report in reports], dtype=np.int64)
        rho = np.stack([report.scalars for report in reports])
        return PrivateStep(plan.round, plan.lr, members, rho, weights[members], active[members])
    total = np.zeros((active.shape[1], plan.directions))
    weight = np.zeros((active.shape[1], 1))
    for report in reports:
        row = active[report.client]
        total[row] += weights[report.client] * report.scalars.astype(np.float64)
        weight[row] += weights[report.client]
    c = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return SharedStep(plan.round, plan.lr, c.astype(np.float32))
