"""Accuracy of the global model on each client's own kind of data. No torch.

Clients have training data only, so a client's accuracy is that of the test data, weighted to be like the client's: the
test data is cut into strata, and a client's accuracy is the mean of the strata's accuracies, weighted by the client's
shares of them. Strata are the groups of a natural partition where test examples tell their group, else the labels.

Only strata with test examples count, and shares are of the training examples in those; a client that has none of them
is left out. Language modelling has no labels and no client accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zorba_ray.tasks.examples import Examples

WORST = 0.1  # share of the clients, those with the lowest accuracy


@dataclass(frozen=True)
class Exposure:
    """`strata` int64 [test examples], stratum of each; `shares` float64 [N, S], of each client's data in each stratum,
    rows of zeros for clients that are left out."""

    strata: NDArray[np.int64]
    shares: NDArray[np.float64]


def exposure_of(train: Examples, test: Examples, shards: Sequence[NDArray[np.int64]], natural: bool) -> Exposure:
    """For a partition by groups (`natural`) or any other."""
    ours, theirs = train.labels, test.labels
    if natural and train.groups is not None and test.groups is not None:
        ours, theirs = train.groups, test.groups
    known, strata = np.unique(theirs, return_inverse=True)
    owner = np.repeat(np.arange(len(shards)), [len(shard) for shard in shards])
    values = ours[np.concatenate([np.zeros(0, dtype=np.int64), *shards])]
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    seen = known[place] == values  # only strata with test examples count
    cells = owner[seen] * len(known) + place[seen]
    counts = np.bincount(cells, minlength=len(shards) * len(known)).reshape(len(shards), -1).astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return Exposure(strata.reshape(-1).astype(np.int64), shares)


def client_accuracy(exposure: Exposure, right: bytes) -> tuple[float, float] | None:
    """Mean over the clients, and over the tenth of them with the lowest accuracy (at least one); None without any.

    `right` has a byte for each test example, 1 where the answer was right.
    """
    answers = np.frombuffer(right, dtype=np.uint8)
    assert len(answers) == len(exposure.strata), f"{len(answers)} answers to {len(exposure.strata)} test examples"
    strata, count = exposure.strata, exposure.shares.shape[1]
    seen = np.bincount(strata, minlength=count).astype(np.float64)
    hits = np.bincount(strata, weights=answers, minlength=count)
    accuracy = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    shares = exposure.shares * (seen > 0)
    totals = shares.sum(axis=1)
    found = np.sort((shares @ accuracy)[totals > 0] / totals[totals > 0])
    if not found.size:
        return None
    worst = max(1, round(WORST * found.size))
    return float(found.mean()), float(found[:worst].mean())
