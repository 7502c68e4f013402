"""The step of a round in the simulated world: of the reports that count, with late ones of earlier rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.messages import CombinedStep, PrivateStep, Report, Reports, RoundPlan, SharedStep, Step, no_step
from zorba_ray.methods.average import in_order
from zorba_ray.world.privacy import private_average
from zorba_ray.world.weights import expected_share
from zorba_ray.world.world import Judged

Floats = NDArray[np.float64]
MakeStep = Callable[[RoundPlan, Sequence[Report], NDArray[np.bool_], Floats], Step]


def step_of(
    config: Config,
    judged: Judged,
    plan: RoundPlan,
    make: MakeStep,
    active_in: Callable[[int], NDArray[np.bool_]],
    plan_of: Callable[[int], RoundPlan],
    weights: Floats,
) -> Step:
    """The round's step: of the counted reports, with late ones of earlier rounds along the directions of their own.

    `active_in` gives a round's a [N, L], `plan_of` its plan. Part k of a combined step has the share
    `Σ_{n∈k∩A_l} w_n / Σ_{all n∈A_l} w_n` of block l, A_l being that of each report's own round.
    """
    active, expected = active_in(plan.round), config.step.normalise == "expected"
    if config.privacy.noise > 0:
        scalars = plan.local_steps * plan.directions
        c = private_average(config, plan.round, judged.counted, active, scalars)
        return SharedStep(plan.round, plan.lr, c, per=plan.directions)
    if not judged.arrived and not judged.counted:
        return no_step(plan.round, plan.lr, active.shape[1])
    if not judged.arrived:
        step = make(plan, judged.counted, active, weights)
        return rescaled(step, judged, active, weights, expected_share(config)) if expected else step
    late_of: dict[int, list[Report]] = {}
    for late in judged.arrived:
        late_of.setdefault(late.round, []).append(late.report)
    groups = {origin: Reports.of(late).in_order() for origin, late in late_of.items()}
    if judged.counted:
        groups[plan.round] = judged.counted
    parts: list[SharedStep | PrivateStep] = []
    totals = []
    for origin in sorted(groups):
        members = groups[origin]
        rows = active_in(origin)
        made = make(replace(plan_of(origin), lr=plan.lr), members, rows, weights)
        assert isinstance(made, SharedStep | PrivateStep), "only steps along directions can be late"
        parts.append(replace(made, round=plan.round, origin=origin))
        totals.append(in_order(weights[members.client, None] * rows[members.client]))
    sums = np.stack(totals)
    whole = np.add.accumulate(sums, axis=0)[-1]
    shares = np.divide(sums, whole, out=np.zeros_like(sums), where=whole > 0)
    return CombinedStep(plan.round, plan.lr, tuple(parts), shares)


def rescaled(step: Step, judged: Judged, active: NDArray[np.bool_], weights: Floats, share: float) -> Step:
    """The mean over who came, made a sum divided by what its weight is on average: `share` of a block's whole weight.

    Every client's mean weight is then its ω, and a round in which few come moves less.
    """
    assert isinstance(step, SharedStep), "only scalars of shared directions are divided by an expected weight"
    members = judged.counted.client
    came, whole = weights[members] @ active[members], share * (weights @ active)
    factor = np.divide(came, whole, out=np.zeros_like(came), where=whole > 0)
    return replace(step, coefficients=(step.coefficients * factor[:, None]).astype(np.float32))
