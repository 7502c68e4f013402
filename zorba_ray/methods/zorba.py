"""ZorBA, our reading: every client probes its active blocks along the round's directions; a block moves by the
average of the scalars of the clients that have it active."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.engine import CLEAN, Path
from zorba_ray.messages import PrivateStep, Report, RoundPlan, SharedStep, Step, clients_of, scalars_of
from zorba_ray.methods.average import block_coefficients
from zorba_ray.methods.method import Traffic, ZeroOrder
from zorba_ray.noise import Direction


def probes(plan: RoundPlan, client: int, active: NDArray[np.bool_]) -> tuple[Path, ...]:
    """`θ ± μ z_p` with z_p masked to the client's active blocks; one-sided, the clean path comes first."""
    return probes_along([plan.direction(p, client) for p in range(plan.directions)], plan, active)


def probes_along(directions: Sequence[Direction], plan: RoundPlan, active: NDArray[np.bool_]) -> tuple[Path, ...]:
    """The paths of `probes` for any directions."""

    def path(direction: Direction, s: float) -> Path:
        version = ((direction, s),)
        return tuple(version if on else CLEAN for on in active)

    if plan.estimator == "forward":
        clean: Path = (CLEAN,) * len(active)
        return (clean, *(path(direction, plan.mu) for direction in directions))
    return tuple(path(direction, s) for direction in directions for s in (plan.mu, -plan.mu))


def scalars(plan: RoundPlan, losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """ρ [P] from the losses of `probes`: (L₊ − L₋)/2μ, or (L₊ − L₀)/μ."""
    if plan.estimator == "forward":
        return np.asarray((losses[1:] - losses[0]) / plan.mu, dtype=np.float32)
    plus, minus = losses.reshape(-1, 2).T
    return np.asarray((plus - minus) / (2 * plan.mu), dtype=np.float32)


def step(
    plan: RoundPlan, reports: Sequence[Report], active: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Step:
    """`c[l,j] = Σ_{n∈A_l} w_n ρ[n,j] / Σ_{n∈A_l} w_n` over the round's participants; a block nobody has stays.

    `active` a [N, L], `weights` w [N]; columns j are the P directions of one local step after the other.
    """
    members, rho = clients_of(reports), scalars_of(reports)
    rows, w = active[members], weights[members]
    if not plan.shared:
        return PrivateStep(plan.round, plan.lr, members, rho, w, rows, per=plan.directions, first=plan.step)
    c = block_coefficients(plan.aggregate, rows.astype(np.int8), w, rho.astype(np.float64)[None])
    return SharedStep(plan.round, plan.lr, c, per=plan.directions, first=plan.step)


def traffic(config: Config) -> Traffic:
    """All participants' scalars make the step, unless nobody may see a client's own."""
    scalars = config.zo.local_steps * config.zo.directions
    return Traffic() if config.privacy.noise > 0 else Traffic(scalars=scalars)


METHOD = ZeroOrder(probes, scalars, step, traffic=traffic, comparable=True, late=True, private=True)
