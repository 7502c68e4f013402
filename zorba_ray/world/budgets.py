"""VRAM budgets of the clients: classes with shares, an explicit list, or a log-normal distribution by levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import BudgetsConfig, ClientsConfig
from zorba_ray.config.units import format_bytes, parse_bytes
from zorba_ray.noise import Domain, generator


@dataclass(frozen=True)
class Budgets:
    """One budget per client, and the class that each belongs to."""

    bytes: NDArray[np.float64]  # [N]
    class_of: NDArray[np.int64]  # [N] index into names
    names: tuple[str, ...]


def client_budgets(clients: ClientsConfig, seed: int) -> Budgets:
    """Budgets of all clients. Classes and levels are dealt out in an order shuffled by the seed, so that a client's
    number says nothing of its budget; an explicit list is kept in its order, equal budgets forming a class."""
    budgets = clients.budgets
    if budgets.explicit:
        return explicit_budgets(budgets.explicit, clients.count)
    names, sizes, counts = levels(budgets, clients.count) if budgets.median else classes(budgets, clients.count)
    order = generator(seed, Domain.BUDGETS).permutation(clients.count)
    class_of = np.repeat(np.arange(len(names)), counts)[order]
    return Budgets(np.asarray(sizes, dtype=np.float64)[class_of], class_of.astype(np.int64), tuple(names))


def explicit_budgets(sizes: Sequence[str], count: int) -> Budgets:
    if len(sizes) != count:
        raise ConfigError(f"clients.budgets.explicit has {len(sizes)} budgets for {count} clients: give one for each")
    each = np.array([parse_bytes(size) for size in sizes], dtype=np.float64)
    distinct, class_of = np.unique(each, return_inverse=True)
    labels = [format_bytes(size) for size in distinct]
    names = tuple(f"{size:.0f} B" if labels.count(label) > 1 else label
                  for size, label in zip(distinct, labels, strict=True))
    return Budgets(each, class_of.reshape(-1).astype(np.int64), names)


def classes(budgets: BudgetsConfig, count: int) -> tuple[list[str], list[float], list[int]]:
    """Names, sizes and client counts of the classes of the config."""
    if not budgets.classes:
        raise ConfigError("clients.budgets: give classes, an explicit list, or a median")
    counts = apportion([each.share for each in budgets.classes], count)
    sizes = [float(parse_bytes(each.budget)) for each in budgets.classes]
    return [each.name for each in budgets.classes], sizes, counts


def levels(budgets: BudgetsConfig, count: int) -> tuple[list[str], list[float], list[int]]:
    """Level i of K is the (i + ½)/K quantile of the distribution: its middle, with an equal share of the clients."""
    if budgets.levels < 1:
        raise ConfigError(f"clients.budgets.levels is {budgets.levels}; it must be at least 1")
    if budgets.sigma <= 0:
        raise ConfigError(f"clients.budgets.sigma is {budgets.sigma}; it must be above 0 (or use one class instead)")
    normal = NormalDist(float(np.log(parse_bytes(budgets.median))), budgets.sigma)
    ranks = [(i + 0.5) / budgets.levels for i in range(budgets.levels)]
    sizes = [float(np.floor(np.exp(normal.inv_cdf(rank)))) for rank in ranks]
    return [f"q{100 * rank:.3g}" for rank in ranks], sizes, apportion([1.0] * budgets.levels, count)


def apportion(shares: Sequence[float], count: int) -> list[int]:
    """Whole numbers that sum to `count`, in proportion to the shares, by largest remainder; ties to the first."""
    if any(share < 0 for share in shares) or sum(shares) <= 0:
        raise ConfigError(f"shares of the budget classes must be at least 0 and not all 0, not {list(shares)}")
    exact = [share / sum(shares) * count for share in shares]
    counts = [int(part) for part in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: count - sum(counts)]:
        counts[i] += 1
    return counts
