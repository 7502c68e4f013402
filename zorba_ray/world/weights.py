"""What a client weighs in a round's average, on average: its ω = w_n / Σ w only where everybody takes part.

A round divides by the weight of those who came, so a heavy client shares with few others when it comes, and is not
there when it does not: with two of ten clients a round, uniformly drawn, ω = 0.50 comes to a mean weight of 0.18.
Dividing by the *expected* weight instead (`step.normalise=expected`) makes it ω again, and rounds unequally long.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_clients
from zorba_ray.config.words import percent
from zorba_ray.world.availability import Availability
from zorba_ray.world.participation import choose, dropped, reachable, wanted

Floats = NDArray[np.float64]

DRAWS, MOST_NUMBERS, LEAST_DRAWS = 4000, 4_000_000, 200


def everybody(config: Config) -> bool:
    """Whether all clients take part in every round."""
    section, count = config.participation, config.clients.count
    all_wanted = wanted(section, count) == count and section.choice != "poisson"
    return (all_wanted or count == 1) and section.availability == "always" and section.dropout == 0


def mean_weights(config: Config, samples: Floats, weights: Floats) -> tuple[Floats, bool] | None:
    """Mean share of each client [N] in the average of a round that has anybody, and whether it is exact.

    Exact where all take part, where weights are equal and nobody is likelier to come than another, and where sums are
    divided by their expectation. Else by Monte Carlo, from draws as the run makes them (its own rounds come first).
    None where who comes depends on the virtual clock.
    """
    section, count = config.participation, config.clients.count
    if everybody(config) or config.step.normalise == "expected":
        return weights / weights.sum(), True
    if section.deadline > 0 or section.over > 0 or (section.availability == "trace"
                                                    and section.trace_unit == "seconds"):  # fmt: skip
        return None
    if np.ptp(weights) == 0 and section.choice != "samples" and section.availability != "trace":
        return np.full(count, 1 / count), True
    draws = max(LEAST_DRAWS, min(DRAWS, MOST_NUMBERS // count))
    if section.availability == "trace":
        draws = min(draws, config.rounds)
    availability = Availability(section, config.seed, count)
    total, held = np.zeros(count), 0
    for t in range(draws):
        chosen, _ = choose(section, config.seed, t, availability.at(t, 0.0), samples)
        came = chosen[~dropped(section, config.seed, t, chosen, count)]
        if len(came):
            total[came] += weights[came] / weights[came].sum()
            held += 1
    return total / max(held, 1), False


def expected_share(config: Config) -> float:
    """The chance that a client's report counts in a round, alike for all: of a uniform or Poisson draw among who is
    available, without who drops out."""
    section, count = config.participation, config.clients.count
    available = reachable(section)
    if section.choice == "poisson":
        chance = available * parse_clients(section.clients, count) / count
    else:
        number = wanted(section, count)
        come = np.arange(count + 1)
        chance = float(np.minimum(come, number) @ binomial(count, available)) / count
    return float(chance * (1 - section.dropout))


def binomial(count: int, chance: float) -> Floats:
    """P(k of `count`), k = 0 … count."""
    if chance >= 1:
        return np.asarray(np.eye(count + 1)[count])
    k = np.arange(count + 1)
    factorial = np.array([math.lgamma(i + 1) for i in range(count + 1)])
    logs = factorial[count] - factorial - factorial[::-1] + k * math.log(chance) + (count - k) * math.log1p(-chance)
    return np.asarray(np.exp(logs))


def weights_note(config: Config, samples: Floats, weights: Floats) -> str:
    """The line that a run begins with where not everybody takes part; empty where ω is what a client weighs."""
    if everybody(config):
        return ""
    found = mean_weights(config, samples, weights)
    if found is None:
        return "what clients weigh on average depends on the virtual clock; the allocation's bound goes by ω = w/Σw"
    mean, exact = found
    omega = weights / weights.sum()
    how = "exactly" if exact else "by draws"
    text = f"clients weigh {spread(mean)} on average in a round's mean ({how})"
    if not np.allclose(mean, omega, rtol=0.02):
        text += f", where their ω is {spread(omega)}; the allocation's bound goes by ω"
        if not exact and config.step.weights == "samples":
            text += ", and so do steps with step.normalise=expected"
    return text


def spread(values: Floats) -> str:
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return percent(low) if high - low < 5e-4 else f"{percent(low)} to {percent(high)} (median {percent(middle)})"
