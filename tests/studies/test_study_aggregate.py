"""Medians, budgets and targets, by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zorba_ray.studies.aggregate import band, common_budget, cost_to_reach, paired, score_at, spread, student

VALUES = st.sampled_from([math.inf, -math.inf]).flatmap(
    lambda end: st.lists(st.floats(-1e9, 1e9) | st.just(end), min_size=1, max_size=9)
)
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    steps = draw(st.lists(st.floats(0, 1e6), min_size=1, max_size=12))
    scores = draw(st.lists(st.floats(-10, 10), min_size=len(steps), max_size=len(steps)))
    return np.cumsum(steps), np.array(scores)


@given(VALUES)
def test_the_median_has_half_of_the_values_on_each_side(values: list[float]) -> None:
    found = spread(values)
    assert found.least <= found.median <= found.most
    assert sum(v <= found.median for v in values) >= len(values) / 2 <= sum(v >= found.median for v in values)
    assert (found.least, found.most, found.count) == (min(values), max(values), len(values))
    assert found.finite == sum(math.isfinite(v) for v in values)
    if found.finite == found.count:
        assert found.median == pytest.approx(float(np.median(values)), abs=1e-6)


def test_a_seed_that_never_reaches_counts_as_more_than_any() -> None:
    assert spread([10.0, 30.0, math.inf]).median == 30
    assert spread([10.0, math.inf]).median == math.inf
    assert spread([-math.inf, 0.5, 0.7]).median == 0.5


@given(curves(), st.floats(-10, 10))
def test_the_target_is_reached_at_an_evaluation_and_not_before(curve: Curve, target: float) -> None:
    x, y = curve
    cost = cost_to_reach(x, y, target)
    if math.isinf(cost):
        assert (y < target).all()
    else:
        first = int(np.flatnonzero(y >= target)[0])
        assert cost == x[first]
        assert (y[:first] < target).all()


@given(curves(), st.floats(0, 1))
def test_a_score_at_a_budget_lies_between_its_neighbours(curve: Curve, share: float) -> None:
    x, y = curve
    budget = float(x[0] + share * (x[-1] - x[0]))
    if not x[0] <= budget <= x[-1]:
        return
    found = score_at(x, y, budget)
    inside = (x >= x[x <= budget].max()) & (x <= x[x >= budget].min())
    assert y[inside].min() - 1e-9 <= found <= y[inside].max() + 1e-9


@given(curves())
def test_a_score_at_an_evaluation_is_the_evaluations(curve: Curve) -> None:
    x, y = curve
    for value in np.unique(x):
        last = int(np.flatnonzero(x == value)[-1])
        assert score_at(x, y, float(value)) == pytest.approx(y[last], abs=1e-9)
    assert score_at(x, y, float(x[-1]) * 2 + 1) == -math.inf
    assert score_at(x, y, float(x[0]) - 1) == -math.inf


@given(st.lists(curves(), min_size=1, max_size=4))
def test_every_run_has_a_score_at_the_common_budget(runs: list[Curve]) -> None:
    budget = common_budget([float(x[-1]) for x, _ in runs])
    assert budget is not None
    starts_in_time = [(x, y) for x, y in runs if x[0] <= budget]
    assert all(math.isfinite(score_at(x, y, budget)) for x, y in starts_in_time)
    assert any(x[-1] == budget for x, _ in runs), "it is the largest such budget"
    assert common_budget([]) is None


@given(st.lists(curves(), min_size=1, max_size=4))
def test_a_band_holds_its_median_and_goes_as_far_as_all_runs(runs: list[Curve]) -> None:
    found = band([x for x, _ in runs], [y for _, y in runs])
    assert len(found.median) == min(len(x) for x, _ in runs)
    assert (found.least <= found.median).all() and (found.median <= found.most).all()
    assert (np.diff(found.x) >= 0).all()


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (30, 2.04227)])
def test_students_quantiles_are_those_of_the_books(freedom: int, t: float) -> None:
    assert student(freedom, 0.95) == pytest.approx(t, rel=1e-5)


def test_paired_differences_forget_what_seeds_share() -> None:
    found = paired([1.1, 5.2, 9.1], [1.0, 5.0, 9.0])
    assert found is not None and found.mean == pytest.approx(0.4 / 3) and (found.better, found.count) == (3, 3)
    half = 4.30265 * np.std([0.1, 0.2, 0.1], ddof=1) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-4)
    one = paired([1.0, -math.inf], [0.5, 0.5])
    assert one is not None and one.count == 1 and one.high == math.inf
    assert paired([-math.inf], [0.0]) is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held, tries = np.random.default_rng(0), 0, 2000
    for _ in range(tries):
        shared = rng.normal(0, 10, 4)
        found = paired((shared + rng.normal(1, 1, 4)).tolist(), shared.tolist())
        assert found is not None
        held += found.low <= 1 <= found.high
    assert abs(held / tries - 0.95) < 5 * math.sqrt(0.95 * 0.05 / tries)
