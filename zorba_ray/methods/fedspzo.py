"""FedSPZO, our reading: the model is split in two; each perturbed first part is run once and forked into several
perturbed second parts, so the expensive prefix is shared and the second part sees more directions.

P scalars a client, m forks, P₁ = P/m pairs of first parts. The first part of pair i moves along direction i·m, the
second part of its fork j along direction i·m + j. With heterogeneous activation a part is the client's active blocks in
it, and with a split per client each client has its own parts: both papers' ideas together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.require import at_least, require
from zorba_ray.config.schema import Config, key
from zorba_ray.engine import CLEAN, Path
from zorba_ray.messages import Report, RoundPlan, SharedStep, Step, clients_of, scalars_of
from zorba_ray.methods.average import block_coefficients
from zorba_ray.methods.method import Traffic, ZeroOrder


@dataclass
class Options:
    """The keys `fedspzo.*`."""

    forks: int = key(2, "second-part directions for each first-part one, m; divides zo.directions")
    at: int = key(0, "blocks in the first part; 0: half of them")
    per_client: bool = key(False, "split in the middle of each client's own active blocks instead")
    form: str = key(
        "joint", "both parts perturbed in one probe, or one after the other, the second behind a clean first part",
        ("joint", "sequential"),
    )


FIRST, SECOND = 1, 2


@dataclass(frozen=True)
class Split:
    """FedSPZO's P directions, m forks, place of the split and form, as in the config."""

    directions: int
    forks: int
    at: int
    per_client: bool
    form: str

    @property
    def pairs(self) -> int:
        """P₁ = P / m."""
        return self.directions // self.forks

    def parts(self, rows: NDArray[np.bool_]) -> NDArray[np.int8]:
        """For rows of a[n, l] [..., L]: 0 where a block is not active, else FIRST or SECOND.

        The first part is the first `at` blocks (0: half of all), or per client the first half of its active blocks; the
        middle one of an odd number is in the second part.
        """
        blocks = rows.shape[-1]
        if self.per_client:
            rank = np.cumsum(rows, axis=-1)  # 1 for the first active block
            first = rank <= rows.sum(axis=-1, keepdims=True) // 2
        else:
            first = np.broadcast_to(np.arange(blocks) < (self.at or blocks // 2), rows.shape)
        return np.where(rows, np.where(first, FIRST, SECOND), 0).astype(np.int8)

    def gain(self, blocks: int) -> NDArray[np.float64]:
        """How much of block q's gradient reaches block l's step as noise, [l, q], where 1 is what P directions of all
        blocks at once let through. The first part has P/m directions; in the joint form the second part's noise in its
        scalars averages over m forks, in the sequential form neither part meets the other.

        A split per client is not one of blocks, and counts as P directions for all."""
        if self.per_client:
            return np.ones((blocks, blocks))
        first = self.parts(np.ones(blocks, dtype=np.bool_)) == FIRST
        apart = first[:, None] != first
        return np.where(apart, float(self.form == "joint"), np.where(first, float(self.forks), 1.0))

    def versions(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many versions of the hidden state leave each block, [..., L]: edges of the trie of the probes.

        From a part's first active block on, its probes differ. Joint: 2·P₁ versions behind the first part's, 2·P behind
        the second's. Sequential: two kinds of probes, each leaving the clean path at its part's first active block; the
        clean path goes on until both have left it.
        """
        parts = self.parts(rows)
        first = np.maximum.accumulate(parts == FIRST, axis=-1)
        second = np.maximum.accumulate(parts == SECOND, axis=-1)
        wide, narrow = 2 * self.directions, 2 * self.pairs
        if self.form == "joint":
            return np.where(second, wide, np.where(first, narrow, 1))
        return np.asarray(narrow * first + wide * second + ~(first & second), dtype=np.int64)


def split_of(plan: RoundPlan) -> Split:
    options: Options = plan.options
    return Split(plan.directions, options.forks, options.at, options.per_client, options.form)


def probes(plan: RoundPlan, client: int, active: NDArray[np.bool_]) -> tuple[Path, ...]:
    """joint: `θ₁ ± μ z_{i·m}, θ₂ ± μ z_{i·m+j}` for every pair i and fork j, with equal signs. sequential:
    `θ₁ ± μ z_{i·m}` with a clean second part, then `θ₂ ± μ z_p` behind a clean first part."""
    where = split_of(plan).parts(active)

    def path(first: int | None, second: int | None, s: float) -> Path:
        chosen = {0: None, FIRST: first, SECOND: second}
        directions = [chosen[int(part)] for part in where]
        return tuple(CLEAN if p is None else ((plan.direction(p, client), s),) for p in directions)

    everyone, signs = range(plan.directions), (plan.mu, -plan.mu)
    if plan.options.form == "joint":
        return tuple(path(p - p % plan.options.forks, p, s) for p in everyone for s in signs)
    first = [path(p, None, s) for p in everyone[:: plan.options.forks] for s in signs]
    return (*first, *(path(None, p, s) for p in everyone for s in signs))


def scalars(plan: RoundPlan, losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """ρ = (L₊ − L₋)/2μ of each pair of `probes`: joint [P], forks innermost; sequential [P₁ + P]."""
    plus, minus = losses.reshape(-1, 2).T
    return np.asarray((plus - minus) / (2 * plan.mu), dtype=np.float32)


def contributions(plan: RoundPlan, rho: NDArray[np.float64]) -> NDArray[np.float64]:
    """r [2, C, local steps · P] of the clients' scalars `rho` [C, local steps · J], for blocks of the first and of the
    second part: `θ₂ ← θ₂ − (η/P) Σ_p ρ_p z_p`, `θ₁ ← θ₁ − (η/P₁) Σ_i ρ̄_i z_{i·m}` with ρ̄_i the mean over i's forks, or
    in the sequential form the scalar of pair i itself."""
    clients, m = len(rho), plan.options.forks
    pairs = plan.directions // m
    if plan.options.form == "joint":
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
    members, rho = clients_of(reports), scalars_of(reports).astype(np.float64)
    values = contributions(plan, rho)
    c = block_coefficients(plan.aggregate, split_of(plan).parts(active[members]), weights[members], values)
    return SharedStep(plan.round, plan.lr, c, per=plan.directions, first=plan.step)


def forked(config: Config, blocks: int) -> Split:
    """The split of a model of so many blocks."""
    options: Options = config.options
    if options.at >= blocks:
        raise ConfigError(f"fedspzo.at is {options.at}, but the model has {blocks} blocks; it must leave a second part")
    return Split(config.zo.directions, options.forks, options.at, options.per_client, options.form)


def traffic(config: Config) -> Traffic:
    options: Options = config.options
    p, m = config.zo.directions, options.forks
    return Traffic(forks=m, scalars=config.zo.local_steps * (p if options.form == "joint" else p + p // m))


def check(config: Config) -> list[str]:
    zo, options = config.zo, config.options
    require(zo.estimator == "central", "zo.estimator", zo.estimator, "central, because method is fedspzo")
    require(options.forks >= 1 and zo.directions % options.forks == 0, "fedspzo.forks", options.forks,
            f"a divisor of zo.directions, which is {zo.directions}: every first part has as many second parts")
    at_least(0, fedspzo__at=options.at)
    return ["fedspzo.at has no effect: fedspzo.per_client is true"] if options.at and options.per_client else []


METHOD = ZeroOrder(
    probes, scalars, step, traffic=traffic, options=Options, check=check, forked=forked,
    shared=True, comparable=True, late=True,
)  # fmt: skip
