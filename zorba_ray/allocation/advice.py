"""What a plan changes and what it does not, in words with numbers, before a run begins."""

from __future__ import annotations

import numpy as np

from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.plan import Plan, describe

LOUD = 3.0  # times the gradient's share of a scalar: noise that no plan does much about
ALIKE = 0.1  # relative difference of merits below which plans bring the loss down equally fast


def advice(instance: Instance, plan: Plan) -> list[str]:
    """The plan beside full activation, and what limits progress: sampling noise, or the signal that blocks share. Only
    where the statistics were measured or given: of ones for all blocks, nothing of the kind can be said."""
    full = describe("full", np.ones_like(plan.matrix), Bound(instance))
    noise = sampling_noise(instance)
    lines = []
    if plan.rate:
        lines.append(f"by these statistics its best rate in the first rounds is {plan.rate:.2g}, at which a round "
                     f"brings the loss down by about {plan.merit:.2g}; a run bears a tenth to a half of it for long "
                     f"(step.lr is {instance.lr:g})")  # fmt: skip
    if full.merit and plan.merit and plan.name != "full":
        ratio, cost = plan.merit / full.merit, plan.compute / full.compute
        pace = "brings the loss down as fast as" if abs(ratio - 1) < ALIKE else f"makes {ratio:.2g} × the progress of"
        room = plan.vram / full.vram
        lines.append(f"each at its best rate, a round of it {pace} one of full activation, for {100 * cost:.0f} % of "
                     f"the FLOPs and {100 * room:.0f} % of the VRAM")  # fmt: skip
    if noise > LOUD:
        lines.append(f"sampling noise is {noise:.2g} × the gradient's part of a round's scalars: no plan changes the "
                     f"rounds much here; {noise:.2g} times the clients a round or texts a client would")  # fmt: skip
    elif noise:
        lines.append(f"sampling noise is {noise:.2g} × the gradient's part of a round's scalars: which blocks share a "
                     "client counts")  # fmt: skip
    return lines


def sampling_noise(instance: Instance) -> float:
    """1/s = Σ(σ² + ζ²)/(N ΣG), N the clients of a round."""
    total = float((instance.batch_variance + instance.client_variance).sum())
    signal = instance.taking_part * float(instance.gradient.sum())
    return total / signal if signal else 0.0
