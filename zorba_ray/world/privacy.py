"""Differential privacy of clients, by a trusted server: clipped scalars, Gaussian noise on their sums, and the ε spent.

Each client's vector of a round is scaled down to norm C at most. With partial activation a client enters the sums of
its blocks only, and two ways of adding noise are at hand, both of sensitivity C for one client more or less:

* by group: clients of one row of a[N, L] share one sum, each client is in one of them; a block adds up its groups;
* by block: each block has its own sum; a client with k blocks is in k of them, so the noise is √(max k) times larger.

The one with the least noise over all blocks is taken. Which client has which block, and how many take part on average,
is public; who takes part is not, so sums are divided by the expected number of clients.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_clients
from zorba_ray.messages import Report
from zorba_ray.methods.average import clipped
from zorba_ray.noise import Domain, generator
from zorba_ray.world.participation import wanted

Floats = NDArray[np.float64]


def private_average(config: Config, round: int, reports: Sequence[Report], active: NDArray[np.bool_], scalars: int
                    ) -> NDArray[np.float32]:  # fmt: skip
    """c [L, J] of a round: `(Σ_{n∈A_l} clip(ρ_n) + σ C (M ξ)_l) / (q m_l)`, ξ standard normal, q the sampling rate.

    A block that no client of the whole allocation has stays.
    """
    section = config.privacy
    mixing = noise_mixing(active)
    total = np.zeros((active.shape[1], scalars))
    for report in reports:
        total[active[report.client]] += clipped(report.scalars.astype(np.float64), section.clip)
    noise = generator(config.seed, Domain.PRIVACY, round).standard_normal((mixing.shape[1], scalars))
    expected = sampling_rate(config) * active.sum(axis=0)[:, None]
    c = np.divide(total + section.noise * section.clip * (mixing @ noise), expected, out=np.zeros_like(total),
                  where=expected > 0)  # fmt: skip
    return np.asarray(c, dtype=np.float32)


def noise_mixing(active: NDArray[np.bool_]) -> Floats:
    """M [L, K] of the noise M ξ: the clients' groups, or the blocks with larger noise, whichever is less in all."""
    rows = np.unique(active, axis=0)
    groups = rows[rows.any(axis=1)].T.astype(np.float64)  # [L, G]
    by_block = np.sqrt(float(active.sum(axis=1).max())) * np.diag(active.any(axis=0).astype(np.float64))
    weight = 1 / np.maximum(active.sum(axis=0), 1) ** 2
    least = min((groups, by_block), key=lambda mixing: float(weight @ (mixing**2).sum(axis=1)))
    return np.asarray(least)


def sampling_rate(config: Config) -> float:
    """q: the share of clients that a round has on average."""
    section, count = config.participation, config.clients.count
    if section.choice == "poisson":
        return parse_clients(section.clients, count) / count
    return wanted(section, count) / count


@dataclass
class Accountant:
    """ε after so many rounds, by Rényi differential privacy; `assumption` says under which sampling and neighbours."""

    orders: tuple[float, ...]
    rdp: Floats  # of one round
    delta: float
    assumption: str
    _known: dict[int, float] = field(default_factory=dict)

    def epsilon(self, rounds: int) -> float:
        if rounds not in self._known:
            from dp_accounting import rdp

            self._known[rounds] = float(rdp.compute_epsilon(self.orders, rounds * self.rdp, self.delta)[0])
        return self._known[rounds]


def accountant_of(config: Config) -> Accountant | None:
    """The accountant of a run; None: no noise is added, so nothing is private.

    Sampling amplifies privacy only where chance alone decides who takes part; with availability patterns, dropouts,
    deadlines or over-selection every client is taken to be in every round, which never claims too much.
    """
    section, participation, count = config.privacy, config.participation, config.clients.count
    if section.noise == 0:
        return None
    try:
        import dp_accounting as dp
        from dp_accounting import rdp
    except ImportError:
        raise ConfigError(
            "privacy.noise needs the accountant dp-accounting, which is not installed: pip install 'zorba-ray[privacy]'"
        ) from None
    logging.getLogger("absl").setLevel(logging.ERROR)  # it reports orders that it leaves out, which cost nothing
    q = sampling_rate(config)
    chance_alone = (
        participation.availability == "always" and participation.dropout == 0 and participation.deadline == 0
        and participation.over == 0
    )  # fmt: skip
    relations = dp.NeighboringRelation
    event, relation, assumption = (
        dp.GaussianDpEvent(section.noise), relations.ADD_OR_REMOVE_ONE,
        "a client more or less; every client counted as in every round",
    )  # fmt: skip
    if chance_alone and q < 1 and participation.choice == "poisson":
        event, assumption = dp.PoissonSampledDpEvent(q, event), f"a client more or less; Poisson sampling, q = {q:.4g}"
    elif chance_alone and q < 1 and participation.choice == "uniform":
        # two clipped vectors differ by 2 C at most, so σ counts half where one client takes another's place
        sample = wanted(participation, count)
        event = dp.SampledWithoutReplacementDpEvent(count, sample, dp.GaussianDpEvent(section.noise / 2))
        relation = relations.REPLACE_ONE
        assumption = f"a client in another's place; {sample} of {count} drawn without replacement"
    orders = tuple(rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS)
    one = rdp.RdpAccountant(orders, relation)
    one.compose(event)
    return Accountant(orders, np.asarray(one._rdp, dtype=np.float64), section.delta, assumption)
