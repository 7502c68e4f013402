"""Budgets of clients, the memory model, and what a run's config makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.allocation import VramModel, client_budgets, textbook
from zorba_ray.allocation.activation import most_blocks
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import BudgetClass, BudgetsConfig, ClientsConfig
from zorba_ray.engine.memory import GradientVram
from zorba_ray.world.budgets import apportion


def model(active: tuple[int, ...], frozen: tuple[int, ...], transit: tuple[int, ...]) -> VramModel:
    """Three blocks, whose evaluated copies take 10, 20 and 30 bytes, beside 1000 of fixed ones and 7 of the probes."""
    terms = [np.array(each, dtype=np.float64) for each in (active, frozen, (10, 20, 30), transit)]
    return VramModel(1000.0, *terms, awake=7.0)


OFFLOAD, RESIDENT = model((20, 40, 60), (0, 0, 0), (10, 20, 30)), model((20, 40, 60), (20, 40, 60), (0, 0, 0))


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=8), st.integers(1, 1000))
def test_largest_remainder_sums_and_stays_within_one(shares: list[float], count: int) -> None:
    counts = apportion(shares, count)
    assert sum(counts) == count
    exact = np.array(shares) / sum(shares) * count
    assert (np.abs(np.array(counts) - exact) < 1).all()


def test_classes_are_dealt_by_the_seed_and_only_by_it() -> None:
    classes = [BudgetClass("small", 3, "1 GiB"), BudgetClass("large", 1, "4 GiB")]
    clients = ClientsConfig(count=20, budgets=BudgetsConfig(classes=classes))
    one, same, other = (client_budgets(clients, seed) for seed in (1, 1, 2))
    assert np.bincount(one.class_of).tolist() == [15, 5]
    assert (one.bytes == np.array([2**30, 2**32])[one.class_of]).all()
    assert (one.class_of == same.class_of).all() and (one.class_of != other.class_of).any()
    assert one.names == ("small", "large")


def test_explicit_budgets_keep_their_order() -> None:
    clients = ClientsConfig(count=3, budgets=BudgetsConfig(explicit=["2 MiB", "1 MiB", "2 MiB"]))
    budgets = client_budgets(clients, 5)
    assert budgets.bytes.tolist() == [2**21, 2**20, 2**21]
    assert budgets.class_of.tolist() == [1, 0, 1] and budgets.names == ("1.00 MiB", "2.00 MiB")
    with pytest.raises(ConfigError, match="3 budgets for 4 clients"):
        client_budgets(ClientsConfig(count=4, budgets=clients.budgets), 0)


def test_log_normal_levels_have_its_median_and_spread() -> None:
    clients = ClientsConfig(count=10_000, budgets=BudgetsConfig(median="8 GiB", sigma=0.5, levels=101))
    budgets = client_budgets(clients, 0)
    assert np.median(budgets.bytes) == pytest.approx(2**33, rel=1e-6)
    assert np.log(budgets.bytes).std() == pytest.approx(0.5, rel=0.02)
    assert len(np.unique(budgets.bytes)) == 101


def test_vram_formula_word_for_word() -> None:
    """VRAM(a) = fixed + awake if any + Σ [a active + (1 − a) frozen] + max(scratch if active, else transit)."""
    a = np.array([True, True, False])
    assert OFFLOAD.of(a) == 1000 + 7 + (20 + 40) + max(10, 20, 30)
    assert RESIDENT.of(a) == 1000 + 7 + (20 + 40 + 60) + max(10, 20, 0)
    assert OFFLOAD.least == 1000 + 30 and RESIDENT.least == 1000 + 120
    assert OFFLOAD.alone().tolist() == [1000 + 7 + each + 30 for each in (20, 40, 60)]


def test_gradients_cost_what_the_fullest_moment_of_a_backward_does() -> None:
    """Three blocks: until the backward has passed a block, what its forward left is there; then its gradients are."""
    nothing, each = np.zeros(3), np.ones(3)
    vram = GradientVram(
        100.0, 10 * each, 5 * each, nothing, nothing, awake=7.0, first=3 * each, saved=4 * each, passed=2 * each,
        gradients=np.array([1.0, 1.0, 9.0]), stepped=nothing, beside=np.zeros(4),
        making=np.array([[0.0] * 3, [0.0] * 3, [0.0, 0.0, 11.0]]),
        again=np.zeros((3, 3)),
    )
    everything = [0 + 1 + 1 + 9, 3 + 1 + 9, 3 + 4 + 9, 3 + 4 + 4]  # the backward has passed all blocks, …, none
    assert vram.of(np.array([True, True, True])) == 107 + 30 + max(everything)
    middle = [0 + 1, 0 + 1, 3, 3 + 2]  # before the first active block nothing waits, behind it a frozen one passes on
    assert vram.of(np.array([False, True, False])) == 107 + 20 + max(*middle, 3 + 11)  # whose own forward takes more
    assert vram.of(np.array([False, False, True])) == 107 + 20 + 9
    assert vram.of(np.zeros(3, dtype=bool)) == 100 + 15
    again = replace(vram, again=np.array([[0.0] * 3, [0.0, 0.0, 6.0], [0.0] * 3]))  # beside what waits below a block
    assert again.of(np.array([True, True, True])) == 107 + 30 + max(11, 3 + 1 + 9, 3 + 4 + 9, 3 + 4 + 4 + 6)
    rows = all_rows(3)
    linear = np.where(rows, vram.tuned, vram.frozen).sum(axis=1) + 100 + 7 * rows.any(axis=1)
    assert (linear <= vram.of(rows)).all() and (linear[1:] > 100 + 15).all()


def test_the_textbook_estimator_saves_nothing() -> None:
    rows = all_rows(3)
    assert np.ptp(textbook(OFFLOAD).of(rows)) == 0
    assert np.ptp(OFFLOAD.of(rows)) > 0


def all_rows(blocks: int) -> np.ndarray:
    return (np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1).astype(bool)


@given(st.integers(0, 10**6))
def test_no_set_of_blocks_is_larger_than_most_blocks_says(seed: int) -> None:
    from allocation.allocation_instances import vram_model as random_model

    rng = np.random.default_rng(seed)
    vram = random_model(rng.integers(1, 100, 6).astype(float), resident=bool(rng.random() < 0.5))
    rows = all_rows(6)
    budget = float(rng.uniform(vram.least, vram.of(rows).max() * 1.1))
    fitting = rows[vram.of(rows) <= budget].sum(axis=1)
    assert fitting.max(initial=0) <= most_blocks(vram, budget)
