"""The embedded task's data. Its random streams are not those of the pretraining text."""

from __future__ import annotations

from zorba_ray.noise import Domain, generator
from zorba_ray.playground.language import Reviews, sample_reviews

SEED = 0  # the data belongs to the task: a run's seed decides who gets which of it
TRAIN, TEST = 4000, 1000


def train_reviews(count: int = TRAIN) -> Reviews:
    """At least the usual number: the language is made here, so many clients may have as much of it as they want."""
    return sample_reviews(generator(SEED, Domain.DATA, 0), max(count, TRAIN))


def test_reviews() -> Reviews:
    return sample_reviews(generator(SEED, Domain.DATA, 1), TEST)
