"""Which learning rate an arm gets, from its sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """One run of a sweep; accuracy and loss are the last on the examples set aside, None where the run failed."""

    rate: float
    status: str
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True)
class Choice:
    rate: float
    edge: str  # "lowest" or "highest" rate that was tried: a better one may lie outside; empty: inside the grid


def choose(sweep: Sequence[Tried], metric: str) -> Choice | None:
    """The rate that ends best by the metric; a tie goes to the other metric, then to the smaller rate.

    Runs that failed do not count, nor numbers that are not finite; None where nothing is left. A rate whose larger
    neighbours all failed is not at an edge: the grid saw where it ends.
    """
    good = [tried for tried in sweep if tried.status == "ok" and finite(tried)]
    if not good:
        return None
    best = min(good, key=lambda tried: (*order(tried, metric), tried.rate))
    rates = [tried.rate for tried in sweep]
    edge = ""
    if len(rates) > 1 and best.rate in (min(rates), max(rates)):
        edge = "lowest" if best.rate == min(rates) else "highest"
    return Choice(best.rate, edge)


def finite(tried: Tried) -> bool:
    return all(value is not None and math.isfinite(value) for value in (tried.accuracy, tried.loss))


def order(tried: Tried, metric: str) -> tuple[float, float]:
    """Smaller is better."""
    assert tried.accuracy is not None and tried.loss is not None
    by = {"accuracy": -tried.accuracy, "loss": tried.loss}
    return by[metric], by["loss" if metric == "accuracy" else "accuracy"]
