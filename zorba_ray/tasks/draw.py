"""Which test examples a run evaluates on where it does not take all: a draw that is like the whole, and stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zorba_ray.noise import Domain, generator
from zorba_ray.tasks.examples import Examples


def evaluation_draw(test: Examples, most: int, seed: int) -> Examples:
    """At most so many test examples (0: all), in their order.

    Each stratum has its share of the draw: the groups where test examples tell their group, else the labels. The first
    rows of a sorted file would be one label or one domain. By seed and data alone, so every evaluation of a run, and
    every process, has the same ones.
    """
    if not 0 < most < len(test):
        return test
    strata = test.labels
    if test.groups is not None and len(np.unique(test.groups)) > 1:
        strata = test.groups
    return test.take(stratified(strata, most, seed))


def stratified(strata: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` ascending indices: of each stratum a share, by largest remainder, and one at least where that can be."""
    _, of, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    exact = count * sizes / len(strata)
    least = np.minimum(1, sizes) if count >= len(sizes) else np.zeros_like(sizes)
    counts = np.maximum(np.floor(exact).astype(np.int64), least)
    while counts.sum() < count:
        counts[np.argmax(np.where(counts < sizes, exact - counts, -np.inf))] += 1
    while counts.sum() > count:
        counts[np.argmax(np.where(counts > least, counts - exact, -np.inf))] -= 1
    drawn = [
        generator(seed, Domain.EVALUATION, k).permutation(np.flatnonzero(of.reshape(-1) == k))[:taken]
        for k, taken in enumerate(counts)
    ]
    return np.sort(np.concatenate(drawn))
