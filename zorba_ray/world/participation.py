"""Who is chosen for a round, and who of them drops out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config, ParticipationConfig
from zorba_ray.config.units import parse_clients
from zorba_ray.noise import Domain, generator
from zorba_ray.world.streams import Stream, world


def wanted(section: ParticipationConfig, count: int) -> int:
    """Clients whose reports a round waits for, of `count`; on average, where each comes by its own luck (poisson)."""
    return max(1, round(parse_clients(section.clients, count)))


def reachable(section: ParticipationConfig) -> float:
    """The share of the time for which a client is available; 1 for a trace, which is not known beforehand."""
    known = {"random": section.available, "markov": section.up / (section.up + section.down)}
    return known.get(section.availability, 1.0)


def typical(config: Config) -> int:
    """Clients that a round's step is made of on average: what the allocation's bound is told. 0 stands for all."""
    section, count = config.participation, config.clients.count
    present = count * reachable(section)
    limit = float(wanted(section, count))
    reporting = min(limit * (1 + section.over), present) * (1 - section.dropout)
    number = max(1, round(min(limit, reporting)))
    return 0 if number == count else number


def choose(
    section: ParticipationConfig, seed: int, round: int, free: NDArray[np.bool_], samples: NDArray[np.float64]
) -> tuple[NDArray[np.int64], int]:
    """The chosen clients in ascending order, and how many of their reports are wanted.

    `free` [N] is who is available, `samples` [N] their numbers of samples. With over-selection x, ⌈(1 + x)·wanted⌉ are
    chosen. Fewer available than wanted: all of them.
    """
    count = len(free)
    draw = generator(seed, Domain.PARTICIPANTS, round)
    if section.choice == "poisson":
        chosen = np.flatnonzero((draw.random(count) < parse_clients(section.clients, count) / count) & free)
        return chosen, len(chosen)
    candidates = np.flatnonzero(free)
    number = min(wanted(section, count), len(candidates))
    more = min(math.ceil((1 + section.over) * number - 1e-9), len(candidates))
    if more == len(candidates):
        return candidates, number
    share = samples[candidates] / samples[candidates].sum() if section.choice == "samples" else None
    return np.sort(draw.choice(candidates, size=more, replace=False, p=share)), number


def dropped(section: ParticipationConfig, seed: int, round: int, chosen: NDArray[np.int64], count: int
            ) -> NDArray[np.bool_]:  # fmt: skip
    """Who of the chosen drops out after downloading, [C]; a client's luck does not depend on who else was chosen."""
    if section.dropout == 0:
        return np.zeros(len(chosen), dtype=np.bool_)
    return np.asarray(world(seed, Stream.DROPOUT, round).random(count)[chosen] < section.dropout)
