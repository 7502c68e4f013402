"""Probing single blocks, for the statistics that the allocation's bound wants. Not a training method: it has no step.

A client perturbs one block at a time, and reports two scalars for each block and direction: nothing that a client of a
zeroth-order run could not send. ρ = (L₊ − L₋)/2μ: with the same directions for all, `E_z[ρ ρ'] = ⟨∇f, ∇f'⟩` on that
block for any two reports, so products of scalars tell the norm of the common gradient from what differs between
mini-batches and clients. h = (L₊ + L₋ − 2L₀)/μ²: `E_z[h] = tr H` of that block, the curvature that a direction meets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine import CLEAN, Path
from zorba_ray.messages import Report, RoundPlan, Step
from zorba_ray.methods.method import ZeroOrder


def probes(plan: RoundPlan, client: int, active: NDArray[np.bool_]) -> tuple[Path, ...]:
    """The clean model, then `θ ± μ z_p` on one active block after the other, directions innermost."""
    paths: list[Path] = [(CLEAN,) * len(active)]
    for block in np.flatnonzero(active):
        for p in range(plan.directions):
            for s in (plan.mu, -plan.mu):
                version = ((plan.direction(p, client), s),)
                paths.append(tuple(version if other == block else CLEAN for other in range(len(active))))
    return tuple(paths)


def scalars(plan: RoundPlan, losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """ρ [active blocks · P], blocks outermost, then h likewise."""
    plus, minus = losses[1:].reshape(-1, 2).T
    rho, h = (plus - minus) / (2 * plan.mu), (plus + minus - 2 * losses[0]) / plan.mu**2
    return np.concatenate([rho, h]).astype(np.float32)


def step(
    plan: RoundPlan, reports: Sequence[Report], active: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Step:
    raise AssertionError("probes of single blocks make no step")


METHOD = ZeroOrder(probes, scalars, step)
