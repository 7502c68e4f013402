"""Shards are a division of the data: nothing lost, nothing twice, nobody empty; α says how unlike they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ClientsConfig
from zorba_ray.tasks.partition import least_examples, partition


def labels_of(count: int, classes: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(classes, size=count)


def unevenness(shards: list[NDArray[np.int64]], labels: NDArray[np.int64]) -> float:
    """Mean distance of the shards' label shares from those of the whole, 0 to 1."""
    classes = int(labels.max()) + 1
    whole = np.bincount(labels, minlength=classes) / len(labels)
    parts = [np.bincount(labels[shard], minlength=classes) / len(shard) for shard in shards]
    return float(np.mean([np.abs(part - whole).sum() / 2 for part in parts]))


@settings(max_examples=150)
@given(
    examples=st.integers(1, 400),
    classes=st.integers(1, 6),
    clients=st.integers(1, 60),
    alpha=st.sampled_from([1e-6, 0.05, 0.5, 1.0, 10.0, 1e6]),
    kind=st.sampled_from(["dirichlet", "iid", "natural", "quantity"]),
    groups=st.integers(1, 90),
    batch=st.integers(1, 40),
    seed=st.integers(0, 2**64 - 1),
)
def test_shards_divide_the_data(
    examples: int, classes: int, clients: int, alpha: float, kind: str, groups: int, batch: int, seed: int
) -> None:
    clients = min(clients, examples)
    config = ClientsConfig(count=clients, partition=kind, alpha=alpha, batch=batch)
    labels, group = labels_of(examples, classes), labels_of(examples, groups, 1)
    shards = partition(labels, group, config, seed)
    assert len(shards) == clients
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(examples))
    least = least_examples(examples, clients, batch) if kind in ("dirichlet", "quantity") else 1
    assert min(len(shard) for shard in shards) >= least
    again = partition(labels, group, config, seed)
    assert all(np.array_equal(a, b) for a, b in zip(shards, again, strict=True))


def test_another_seed_deals_otherwise() -> None:
    labels = labels_of(1000, 2)
    first, second = (partition(labels, None, ClientsConfig(), seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_alpha_goes_from_one_label_each_to_iid() -> None:
    labels = labels_of(20_000, 4)
    spread = [
        np.mean([unevenness(partition(labels, None, ClientsConfig(alpha=alpha), seed), labels) for seed in range(5)])
        for alpha in (0.01, 0.1, 1.0, 10.0, 1e6)
    ]
    assert all(np.diff(spread) < 0)
    assert spread[0] > 0.6  # 0.75 is one label each
    iid = unevenness(partition(labels, None, ClientsConfig(partition="iid"), 0), labels)
    assert spread[-1] < iid  # proportions are exact where iid's vary by chance
    sizes = [len(shard) for shard in partition(labels, None, ClientsConfig(alpha=1e6), 0)]
    assert max(sizes) - min(sizes) < 20


def test_a_label_is_dealt_in_dirichlet_proportions() -> None:
    """The variance of a client's share of a label is that of Dirichlet(α): (1/N)(1 − 1/N)/(Nα + 1)."""
    labels, clients, alpha = np.zeros(20_000, np.int64), 10, 2.0
    config = ClientsConfig(count=clients, alpha=alpha, batch=1)
    shares = np.array([[len(s) / 20_000 for s in partition(labels, None, config, seed)] for seed in range(300)])
    expected = (1 / clients) * (1 - 1 / clients) / (clients * alpha + 1)
    assert shares.var() == pytest.approx(expected, rel=0.1)


def test_natural_groups_stay_together() -> None:
    groups = labels_of(500, 40)
    shards = partition(labels_of(500, 2), groups, ClientsConfig(count=7, partition="natural"), 0)
    owners = [{n for n, shard in enumerate(shards) if group in groups[shard]} for group in range(40)]
    assert all(len(owner) == 1 for owner in owners)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= np.bincount(groups).max()


def test_clients_share_a_group_where_groups_are_few() -> None:
    groups = np.repeat([0, 1, 2], [100, 200, 700])
    shards = partition(labels_of(1000, 2), groups, ClientsConfig(count=10, partition="natural"), 0)
    assert all(len(np.unique(groups[shard])) == 1 for shard in shards)
    assert {len(shard) for shard in shards} == {100}


@given(
    examples=st.integers(1, 300), classes=st.integers(1, 6), clients=st.integers(1, 40), pieces=st.integers(1, 5),
    kind=st.sampled_from(["classes", "sorted"]), seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_pieces_divide_the_data_or_are_refused(
    examples: int, classes: int, clients: int, pieces: int, kind: str, seed: int
) -> None:
    labels = labels_of(examples, classes)
    config = ClientsConfig(count=clients, partition=kind, pieces=pieces)
    try:
        shards = partition(labels, None, config, seed)
    except ConfigError as error:
        assert "\n" not in str(error) and "clients." in str(error)
        return
    assert len(shards) == clients and min(len(shard) for shard in shards) > 0
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(examples))
    if kind == "classes":
        assert {len(np.unique(labels[shard])) for shard in shards} == {pieces}


def test_a_label_is_shared_evenly_by_those_who_have_it() -> None:
    labels = labels_of(6000, 10)
    shards = partition(labels, None, ClientsConfig(count=50, partition="classes", pieces=2), 0)
    for label in range(10):
        parts = [int((labels[shard] == label).sum()) for shard in shards]
        held = [part for part in parts if part]
        assert len(held) == 10 and max(held) - min(held) <= 1


def test_sorted_pieces_are_equal_and_of_few_labels() -> None:
    labels = labels_of(10_000, 10)
    shards = partition(labels, None, ClientsConfig(count=100, partition="sorted", pieces=2), 0)
    assert {len(shard) for shard in shards} == {100}
    assert max(len(np.unique(labels[shard])) for shard in shards) <= 4  # a piece crosses at most one border
    assert unevenness(shards, labels) > 0.7


def test_quantity_skew_is_of_sizes_and_not_of_labels() -> None:
    labels = labels_of(40_000, 4)
    for alpha, least in ((0.3, 0.6), (1e6, 0.0)):
        shards = partition(labels, None, ClientsConfig(count=20, partition="quantity", alpha=alpha), 0)
        sizes = np.array([len(shard) for shard in shards])
        assert sizes.std() / sizes.mean() >= least
        assert unevenness([shard for shard in shards if len(shard) > 500], labels) < 0.05
    assert sizes.max() - sizes.min() < 20


def test_a_wish_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"clients.count is 20, but there are only 10 training examples"):
        partition(labels_of(10, 2), None, ClientsConfig(count=20), 0)
    with pytest.raises(ConfigError, match=r"natural"):
        partition(labels_of(100, 2), None, ClientsConfig(partition="natural"), 0)
    with pytest.raises(ConfigError, match=r"clients.pieces is 3, but the training data has 2 labels"):
        partition(labels_of(100, 2), None, ClientsConfig(partition="classes", pieces=3), 0)
    with pytest.raises(ConfigError, match=r"leaves some of the 8 labels to nobody; take at least 4 clients"):
        partition(labels_of(500, 8), None, ClientsConfig(count=3, partition="classes", pieces=2), 0)
    with pytest.raises(ConfigError, match=r"clients.pieces=9 wants more pieces than the 100 training examples"):
        partition(labels_of(100, 2), None, ClientsConfig(count=20, partition="sorted", pieces=9), 0)
