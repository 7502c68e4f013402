"""Evaluating the test data in slices that add up to the whole, whoever computed which part. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tally:
    """What evaluating a slice of the test data gave; tallies add up to the whole. Of generated answers, `correct` are
    those that match exactly, and the loss is a mean over `tokens`, not over the `count` of answers."""

    correct: int
    loss_sum: float
    count: int
    right: bytes = b""  # of each example one byte, 1 where its answer was right; empty without labels
    tokens: int = 0
    score: float | None = None  # sum over generated answers; None: none were


def slices(count: int, batch: int) -> Iterator[NDArray[np.int64]]:
    """0 … count − 1 in runs of `batch`."""
    for start in range(0, count, batch):
        yield np.arange(start, min(count, start + batch), dtype=np.int64)


def add_tallies(tallies: list[Tally]) -> Tally:
    """In the order of the test data, so that the sum does not depend on who computed which part."""
    return Tally(
        correct=sum(tally.correct for tally in tallies),
        loss_sum=sum(tally.loss_sum for tally in tallies),
        count=sum(tally.count for tally in tallies),
        right=b"".join(tally.right for tally in tallies),
        tokens=sum(tally.tokens for tally in tallies),
        score=math.fsum(scores) if (scores := [tally.score for tally in tallies if tally.score is not None]) else None,
    )
