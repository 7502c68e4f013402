"""Accuracy per client: the test data as each client would see it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.runs.exposure import client_accuracy, exposure_of
from zorba_ray.tasks.examples import Examples, pack


def examples(labels: list[int], groups: list[int] | None = None) -> Examples:
    numbers = np.array(labels, dtype=np.int64)
    return pack([[1]] * len(labels), numbers, None if groups is None else np.array(groups, dtype=np.int64))


def bits(right: list[int]) -> bytes:
    return np.array(right, dtype=np.bool_).tobytes()


def test_labels_are_weighted_as_in_the_clients_data() -> None:
    train = examples([0, 0, 0, 1, 1, 1])
    shards = [np.array([0, 1, 2, 3]), np.array([4, 5])]
    exposure = exposure_of(train, examples([0, 0, 1, 1]), shards, natural=False)
    mean, worst = client_accuracy(exposure, bits([1, 1, 1, 0])) or (0.0, 0.0)
    alone = [0.75 * 1.0 + 0.25 * 0.5, 0.5]
    assert mean == pytest.approx(np.mean(alone)) and worst == pytest.approx(0.5)


def test_groups_count_where_test_examples_tell_theirs() -> None:
    train = examples([0, 1, 0, 1], groups=[0, 0, 1, 2])
    shards = [np.array([0, 1]), np.array([2]), np.array([3])]
    test = examples([0, 1, 0], groups=[0, 1, -1])  # nothing of group 2, and one group that nobody trained on
    exposure = exposure_of(train, test, shards, natural=True)
    assert client_accuracy(exposure, bits([1, 0, 0])) == (0.5, 0.0)
    by_label = exposure_of(train, replace(test, groups=None), shards, natural=True)
    assert client_accuracy(by_label, bits([1, 0, 0])) == pytest.approx(((0.25 + 0.5 + 0.0) / 3, 0.0))


def test_where_no_client_has_anything_like_the_test_data_there_is_no_number() -> None:
    exposure = exposure_of(examples([0, 0]), examples([1]), [np.array([0, 1])], natural=False)
    assert client_accuracy(exposure, bits([1])) is None


@given(st.data())
def test_clients_with_equal_data_have_the_accuracy_of_all(data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=30))
    right = data.draw(st.lists(st.integers(0, 1), min_size=len(labels), max_size=len(labels)))
    train = examples(labels * 5)
    shards = [np.arange(len(labels)) + len(labels) * n for n in range(5)]
    found = client_accuracy(exposure_of(train, examples(labels), shards, natural=False), bits(right))
    assert found == pytest.approx((np.mean(right), np.mean(right)))


@given(st.integers(1, 60), st.integers(0, 2**31))
def test_the_worst_tenth_is_no_better_than_the_mean_and_within_bounds(clients: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, test = examples(rng.integers(0, 4, 200).tolist()), examples(rng.integers(0, 4, 50).tolist())
    shards = np.array_split(rng.permutation(200), clients)
    found = client_accuracy(exposure_of(train, test, shards, False), bits(rng.integers(0, 2, 50).tolist()))
    assert found is not None and 0 <= found[1] <= found[0] + 1e-12 <= 1 + 1e-9
