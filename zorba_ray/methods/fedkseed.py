"""FedKSeed: all directions of a run come from a pool of K, so that what happened to the model in any number of rounds
is K accumulated scalars: `w = w₀ − (η/P) Σ_s G_s z_s`.

In each of its local steps a client draws from the pool; it uploads one sum for each direction that it drew. Drawn alike
(uniform), anyone can derive who drew what; *Pro* draws by the mean |ρ| seen so far, and the server sends the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.require import positive, require
from zorba_ray.config.schema import Config, key
from zorba_ray.config.validate import MOST_DIRECTIONS
from zorba_ray.engine import Path
from zorba_ray.messages import CombinedStep, Report, RoundPlan, SharedStep, Step
from zorba_ray.methods import zorba
from zorba_ray.methods.average import block_coefficients
from zorba_ray.methods.method import Traffic, ZeroOrder
from zorba_ray.noise import Direction, Domain, generator

Floats = NDArray[np.float64]


@dataclass
class Options:
    """The keys `fedkseed.*`."""

    size: int = key(4096, "directions in the pool, K")
    draw: str = key("uniform", "how clients draw from it: all alike, or by the mean |ρ| so far", ("uniform", "pro"))
    clip: float = key(1000.0, "scalars are clipped to ± this")


def draws(plan: RoundPlan, client: int, count: int) -> NDArray[np.int64]:
    """A client's first `count` draws of the round, with replacement."""
    stream = generator(plan.seed, Domain.POOL, plan.round, client)
    if plan.memory is None:
        return np.asarray(stream.integers(0, plan.options.size, count), dtype=np.int64)
    ends = np.cumsum(plan.memory)
    found = np.searchsorted(ends, ends[-1] * stream.random(count), side="right")
    return np.asarray(np.minimum(found, plan.options.size - 1), dtype=np.int64)


def probes(plan: RoundPlan, client: int, active: NDArray[np.bool_]) -> tuple[Path, ...]:
    """Those of ZorBA, along the directions drawn for this local step."""
    start = plan.step * plan.directions
    drawn = draws(plan, client, start + plan.directions)[start:]
    return zorba.probes_along([Direction(plan.seed, 0, int(s)) for s in drawn], plan, active)


def scalars(plan: RoundPlan, losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """ρ [P], clipped to ± `clip`."""
    return np.clip(zorba.scalars(plan, losses), np.float32(-plan.options.clip), np.float32(plan.options.clip))


def drawn_for(plan: RoundPlan, client: int, rho: NDArray[np.float32]) -> NDArray[np.int64]:
    """The direction of each of a client's ρ."""
    start = plan.step * plan.directions
    return draws(plan, client, start + rho.size)[start:]


def sums(plan: RoundPlan, client: int, rho: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The directions that a client drew, ascending, and the sum of its ρ for each."""
    pool, place = np.unique(drawn_for(plan, client, rho), return_inverse=True)
    total = np.zeros(len(pool))
    np.add.at(total, place, rho.astype(np.float64))
    return pool, total.astype(np.float32)


def upload(plan: RoundPlan, client: int, rho: NDArray[np.float32]) -> bytes:
    """The sums alone: the server knows the draws. For drawing by amplitude every ρ, in the order of the draws."""
    sent = rho if plan.options.draw == "pro" else sums(plan, client, rho)[1]
    return sent.astype("<f4").tobytes()


def step(
    plan: RoundPlan, reports: Sequence[Report], active: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Step:
    """`c[l,s] = Σ_{n∈A_l} w_n g_ns / Σ_{n∈A_l} w_n`, g_ns the client's sum for direction s, 0 where it drew it not."""
    members = [report.client for report in reports]
    received = [sums(plan, report.client, report.scalars) for report in reports]
    pool = np.unique(np.concatenate([drawn for drawn, _ in received]))
    values = np.zeros((len(members), len(pool)))
    for row, (drawn, total) in zip(values, received, strict=True):
        row[np.searchsorted(pool, drawn)] = total
    c = block_coefficients(plan.aggregate, active[members].astype(np.int8), weights[members], values[None])
    seen: dict[str, Any] = {}
    if plan.options.draw == "pro":
        amplitudes, count = np.zeros(len(pool)), np.zeros(len(pool), dtype=np.int32)
        for report in reports:
            place = np.searchsorted(pool, drawn_for(plan, report.client, report.scalars))
            np.add.at(amplitudes, place, np.abs(report.scalars.astype(np.float64)))
            np.add.at(count, place, 1)
        seen = {"amplitudes": amplitudes.astype(np.float32), "drawn": count}
    return SharedStep(plan.round, plan.lr, c, per=plan.directions, pool=pool.astype(np.int32), **seen)


class History:
    """What the server remembers of each direction of the pool: how large ρ was whenever a client drew it. All of it
    follows from the ledger's steps."""

    def __init__(self, size: int):
        self._amplitudes, self._drawn = np.zeros(size), np.zeros(size, dtype=np.int64)

    def add(self, step: Step) -> None:
        if isinstance(step, CombinedStep) and not step.parts:
            return  # nobody reported
        assert isinstance(step, SharedStep) and step.pool is not None
        if step.amplitudes is not None and step.drawn is not None:
            self._amplitudes[step.pool] += step.amplitudes
            self._drawn[step.pool] += step.drawn

    def told(self) -> Floats | None:
        """The chances of the directions: softmax of the mean |ρ| of each, normalised to 0 … 1; one never drawn counts
        as 0. None while nothing tells them apart."""
        mean = self._amplitudes / np.maximum(self._drawn, 1)
        low, high = float(mean.min()), float(mean.max())
        if not high > low:
            return None
        weight = np.exp((mean - low) / (high - low))
        return np.asarray(weight / weight.sum(), dtype=np.float64)


def memory(config: Config) -> History | None:
    """Only who draws by amplitude remembers."""
    return History(config.options.size) if config.options.draw == "pro" else None


def traffic(config: Config) -> Traffic:
    options: Options = config.options
    drawn = config.zo.local_steps * config.zo.directions if options.draw == "pro" else 0
    return Traffic(pool=options.size, drawn=drawn)


def check(config: Config) -> list[str]:
    size = config.options.size
    require(1 <= size <= MOST_DIRECTIONS, "fedkseed.size", size, f"from 1 to {MOST_DIRECTIONS}")
    positive(fedkseed__clip=config.options.clip)
    return []


METHOD = ZeroOrder(
    probes, scalars, step, upload, traffic=traffic, options=Options, check=check, memory=memory, shared=True
)
