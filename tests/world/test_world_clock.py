"""The virtual clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.config import load_config
from zorba_ray.world.budgets import client_budgets
from zorba_ray.world.clock import Fleet, close_round, fleet_of

TIMES = st.lists(st.one_of(st.floats(0, 100), st.just(np.inf)), max_size=12).map(np.array)


def fleet(*overrides: str) -> Fleet | None:
    config = load_config(None, list(overrides))
    return fleet_of(config, client_budgets(config.clients, config.seed))


@given(arrivals=TIMES, wanted=st.integers(0, 12), deadline=st.one_of(st.just(0.0), st.floats(0.1, 100)))
def test_who_is_in_time_came_before_the_deadline_and_before_all_others(
    arrivals: np.ndarray, wanted: int, deadline: float
):
    wanted = min(wanted, len(arrivals))
    in_time, lasted = close_round(arrivals, wanted, deadline)
    able = np.isfinite(arrivals) & (arrivals <= (deadline or np.inf))
    assert in_time.sum() == min(wanted, able.sum())
    assert not (in_time & ~able).any()
    if in_time.any():
        assert arrivals[in_time].max() <= arrivals[able & ~in_time].min(initial=np.inf)
    assert lasted >= arrivals[in_time].max(initial=0.0)
    if in_time.sum() == wanted or not deadline:
        assert lasted == arrivals[in_time].max(initial=0.0)
    else:
        assert lasted == deadline


def test_no_devices_no_clock():
    assert fleet() is None


def test_devices_go_by_budget_class_with_one_for_all_others():
    large = "{budget: large, forward: 5e12, backward: 1e12, up: 8e6, bus: 4e9}"
    got = fleet(f"fleet.devices=[{large}, {{forward: 1e12, latency: 2}}]")
    assert got is not None
    budgets = client_budgets(load_config(None).clients, 0)
    is_large = np.array(budgets.names)[budgets.class_of] == "large"
    assert (got.forward == np.where(is_large, 5e12, 1e12)).all() and (got.backward == 1e12).all()
    assert (got.latency == np.where(is_large, 0, 2)).all()
    seconds = got.seconds(
        0, np.flatnonzero(is_large)[:1], np.array([1e6]), np.array([1e13]), np.array([3e12]), np.array([1e6]),
        np.array([5e8]),
    )
    assert seconds == pytest.approx(1e13 / 5e12 + 3e12 / 1e12 + 8e6 / 8e6 + 8 * 5e8 / 4e9)


@pytest.mark.parametrize(
    ("devices", "said"),
    [("[{budget: huge, forward: 1}]", "no budget class is called 'huge'"),
     ("[{budget: large, forward: 1}]", "no device")],
)  # fmt: skip
def test_classes_and_devices_must_match(devices: str, said: str):
    with pytest.raises(ConfigError, match=said):
        fleet(f"fleet.devices={devices}")


def test_spread_is_fixed_and_jitter_is_not_and_both_have_median_one():
    many = ["clients.count=4000", "fleet.devices=[{forward: 1e12, up: 1e6}]"]
    got = fleet(*many, "fleet.spread=0.5", "fleet.jitter=0.3")
    assert got is not None
    assert np.log(got.forward / 1e12).std() == pytest.approx(0.5, rel=0.05)
    assert np.median(got.forward) == pytest.approx(1e12, rel=0.05)
    assert abs(np.corrcoef(np.log(got.forward), np.log(got.up))[0, 1]) < 0.08
    clients, ones = np.arange(4000), np.ones(4000)
    first, again, other = (
        got.seconds(t, clients, 0 * ones, 1e12 * ones, 0 * ones, 0 * ones, 0 * ones) / (1e12 / got.forward)
        for t in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).all()
    assert np.log(first).std() == pytest.approx(0.3, rel=0.05)
    some = np.array([5, 77])
    ones = np.ones(2)
    assert (got.seconds(0, some, 0 * ones, 1e12 * ones, 0 * ones, 0 * ones, 0 * ones) * got.forward[some] / 1e12
            == pytest.approx(first[some]))  # fmt: skip
