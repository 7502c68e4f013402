"""Robust averages: the mean where nothing is cut, unmoved by few liars, blind to the order of clients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zorba_ray.messages import MEAN, Rule
from zorba_ray.methods.average import average

MEDIAN = Rule("median")
VALUES = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, (n, 3), elements=st.floats(-100, 100, width=32)),
        arrays(np.float64, n, elements=st.floats(0.125, 10, width=32)),
    )
)


@given(VALUES)
def test_nothing_cut_is_the_mean(data: tuple[np.ndarray, np.ndarray]):
    values, weights = data
    mean = average(MEAN, values, weights)
    np.testing.assert_allclose(mean, np.average(values, axis=0, weights=weights), atol=1e-9)
    np.testing.assert_allclose(average(Rule("trimmed", trim=0.0), values, weights), mean, atol=1e-9)
    np.testing.assert_array_equal(average(Rule("clipped", clip_norm=1e9), values, weights), mean)


@given(VALUES, st.sampled_from([MEDIAN, Rule("trimmed", trim=0.2), Rule("trimmed", trim=0.45)]), st.randoms())
def test_the_order_of_clients_does_not_matter(data: tuple[np.ndarray, np.ndarray], rule: Rule, random):
    values, weights = data
    order = list(range(len(weights)))
    random.shuffle(order)
    np.testing.assert_array_equal(average(rule, values, weights), average(rule, values[order], weights[order]))


@given(VALUES)
def test_equal_weights_give_the_plain_median(data: tuple[np.ndarray, np.ndarray]):
    values, _ = data
    np.testing.assert_allclose(average(MEDIAN, values, np.ones(len(values))), np.median(values, axis=0), atol=1e-9)


@given(VALUES, st.integers(1, 5))
def test_a_client_of_whole_weight_k_is_k_clients(data: tuple[np.ndarray, np.ndarray], k: int):
    values, _ = data
    weights = np.ones(len(values))
    weights[0] = k
    repeated = np.concatenate([np.repeat(values[:1], k - 1, axis=0), values])
    for rule in (MEDIAN, Rule("trimmed", trim=0.3)):
        np.testing.assert_allclose(
            average(rule, values, weights), average(rule, repeated, np.ones(len(repeated))), atol=1e-7
        )


@given(VALUES, st.floats(0, 0.49), st.sampled_from([-1e30, 1e30, 7.0]), st.booleans())
def test_liars_with_less_weight_than_is_cut_cannot_leave_the_range_of_the_honest(
    data: tuple[np.ndarray, np.ndarray], trim: float, told: float, median: bool
):
    values, weights = data
    share = 0.5 if median else trim
    lying = np.cumsum(weights) / weights.sum() < share - 1e-6
    assume(lying.any())
    attacked = np.where(lying[:, None], told, values)
    result = average(MEDIAN if median else Rule("trimmed", trim=trim), attacked, weights)
    honest = values[~lying]
    slack = 1e-9 * (1 + np.abs(honest).max())
    assert (result >= honest.min(axis=0) - slack).all() and (result <= honest.max(axis=0) + slack).all()


def test_one_liar_moves_the_mean_as_far_as_it_wants():
    values = np.zeros((5, 1))
    values[0] = 1e12
    assert average(MEAN, values, np.ones(5))[0] > 1e11
    assert average(MEDIAN, values, np.ones(5))[0] == 0


@given(VALUES, st.floats(0.1, 50))
def test_clipping_bounds_every_client_and_keeps_its_direction(data: tuple[np.ndarray, np.ndarray], limit: float):
    values, weights = data
    rule = Rule("clipped", clip_norm=limit)
    assert np.linalg.norm(average(rule, values, weights)) <= limit * (1 + 1e-9)
    alone = average(rule, values[:1], weights[:1])
    length = np.linalg.norm(values[0])
    np.testing.assert_allclose(alone, values[0] * min(1.0, limit / max(length, 1e-300)), atol=1e-6)


def test_trimming_cuts_parts_of_clients():
    values, weights = np.array([[0.0], [1.0], [10.0]]), np.array([1.0, 1.0, 2.0])
    # 30 % at each end of a total of 4: what remains is 0.8 of the second and 0.8 of the last
    assert average(Rule("trimmed", trim=0.3), values, weights) == pytest.approx([(0.8 * 1 + 0.8 * 10) / 1.6])
