"""Numbers of a comparison, from the curves of runs. Pure functions of arrays; nothing here reads a file.

A curve is sampled at evaluations: cost x (rounds, FLOPs, bytes …; never falls) and score y (accuracy, or minus the
loss, so that more is better). A run that diverged scores −∞ and a target never reached costs ∞: medians then need no
rule of their own, and no seed is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Median, least and most over seeds."""

    median: float
    least: float
    most: float
    finite: int  # seeds with a number
    count: int


def spread(values: Sequence[float]) -> Spread:
    """∞ takes part as it is: the median of 1, 2, ∞ is 2, of 1, ∞ is ∞; likewise −∞. No NaN, not both infinities."""
    assert values and not any(math.isnan(value) for value in values)
    assert not (math.inf in values and -math.inf in values)
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    median = low if low == high else low / 2 + high / 2
    return Spread(median, ordered[0], ordered[-1], sum(map(math.isfinite, ordered)), len(ordered))


def cost_to_reach(x: Floats, y: Floats, target: float) -> float:
    """Cost at the first evaluation whose score is at least the target; ∞ where there is none."""
    reached = np.flatnonzero(y >= target)
    return float(x[reached[0]]) if len(reached) else math.inf


def score_at(x: Floats, y: Floats, budget: float) -> float:
    """Score where the cost is `budget`, on the straight line between the evaluations around it.

    −∞ before the first evaluation or beyond the last: nothing is extrapolated. Where cost stands still, the later.
    """
    if not len(x) or budget < x[0] or budget > x[-1]:
        return -math.inf
    right = int(np.searchsorted(x, budget, side="right"))
    if right == len(x):
        return float(y[-1])
    share = (budget - x[right - 1]) / (x[right] - x[right - 1])
    return float((1 - share) * y[right - 1] + share * y[right])


def common_budget(ends: Sequence[float]) -> float | None:
    """The largest cost that every run reaches; None without runs."""
    return min(ends, default=None)


@dataclass(frozen=True)
class Band:
    """A cell's curve: at each evaluation the medians of cost and score over the seeds, and the least and most score."""

    x: Floats
    median: Floats
    least: Floats
    most: Floats


def band(xs: Sequence[Floats], ys: Sequence[Floats]) -> Band:
    """Of runs that were evaluated after the same rounds; as far as all of them go."""
    length = min(map(len, ys), default=0)
    if length == 0:
        empty = np.zeros(0)
        return Band(empty, empty, empty, empty)
    x, y = (np.stack([values[:length] for values in all_]) for all_ in (xs, ys))
    return Band(np.median(x, axis=0), np.median(y, axis=0), y.min(axis=0), y.max(axis=0))


@dataclass(frozen=True)
class Paired:
    """Mean of the differences between two arms' scores on the same seeds, with its confidence interval."""

    mean: float
    low: float  # infinite with fewer than two pairs
    high: float
    better: int  # pairs in which the first is above
    count: int


def paired(scores: Sequence[float], others: Sequence[float], confidence: float = 0.95) -> Paired | None:
    """Student's interval over the pairs of which both are finite; None without any."""
    pairs = zip(scores, others, strict=True)
    differences = np.array([a - b for a, b in pairs if math.isfinite(a) and math.isfinite(b)])
    count = len(differences)
    if count == 0:
        return None
    mean = float(differences.mean())
    half = math.inf
    if count > 1:
        half = student(count - 1, confidence) * float(differences.std(ddof=1)) / math.sqrt(count)
    return Paired(mean, mean - half, mean + half, int((differences > 0).sum()), count)


def student(freedom: int, confidence: float) -> float:
    """The t within which Student's distribution has this share. With t = √ν·tan u its density is cos^(ν−1) u: smooth
    on a bounded interval, so that a fine trapezoid is exact to six digits."""
    angles = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(confidence, share / share[-1], angles)))
