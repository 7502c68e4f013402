"""Privacy: clipped sums, the right amount of noise, and an ε that never claims too much."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zorba_ray.config.errors import ConfigError
from zorba_ray.messages import Report
from zorba_ray.runs.config import load_config
from zorba_ray.world.privacy import accountant_of, noise_mixing, private_average

PRIVATE = ["privacy.noise=1.5", "privacy.clip=2", "step.weights=equal", "clients.count=8"]


def config_of(*overrides: str):
    return load_config(None, [*PRIVATE, *overrides])


def reports_of(scalars: np.ndarray) -> list[Report]:
    return [Report(n, row.astype(np.float32), 0.0, 1, 1, 1.0, 1.0) for n, row in enumerate(scalars)]


@given(arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 5))))
def test_one_client_more_moves_the_released_sums_by_no_more_than_the_noise_allows(active: np.ndarray):
    """The sums Σ_{n∈A_l} are M times sums of which a client's part has length 1 at most, so noise M ξ covers it."""
    mixing = noise_mixing(active)
    for row in active:
        part = np.linalg.lstsq(mixing, row.astype(float), rcond=None)[0]
        np.testing.assert_allclose(mixing @ part, row, atol=1e-9)
        assert np.linalg.norm(part) <= 1 + 1e-9


def test_full_activation_has_one_sum_and_disjoint_blocks_do_not_add_noise():
    assert noise_mixing(np.ones((5, 3), bool)).tolist() == [[1], [1], [1]]
    one_each = noise_mixing(np.eye(4, dtype=bool))
    np.testing.assert_array_equal(np.sort((one_each**2).sum(axis=1)), np.ones(4))


def test_many_kinds_of_clients_get_noise_by_block():
    patterns = (np.arange(1, 16)[:, None] >> np.arange(4)) & 1 == 1
    np.testing.assert_array_equal(noise_mixing(patterns), 2 * np.eye(4))


def test_without_noise_it_is_the_mean_of_clipped_vectors():
    config = config_of("privacy.noise=1e-12")
    scalars = np.random.default_rng(0).normal(0, 3, (8, 4))
    active = np.ones((8, 3), bool)
    active[0, 0] = False
    clipped = scalars * np.minimum(1, 2 / np.linalg.norm(scalars, axis=1))[:, None]
    c = private_average(config, 0, reports_of(scalars), active, 4)
    np.testing.assert_allclose(c[0], clipped[1:].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(c[1], clipped.mean(axis=0), atol=1e-6)


def test_noise_has_its_size_and_does_not_depend_on_who_came():
    config, active = config_of(), np.ones((8, 2), bool)
    nobody = np.array([private_average(config, t, [], active, 4) for t in range(2000)])
    assert nobody.std() == pytest.approx(1.5 * 2 / 8, rel=0.03)
    assert (nobody[:, 0] == nobody[:, 1]).all()
    someone = private_average(config, 7, reports_of(np.full((1, 4), 0.25)), active, 4)
    np.testing.assert_allclose(someone - nobody[7], 0.25 / 8, atol=1e-6)


def test_the_divisor_is_the_expected_number_of_clients():
    config = config_of("privacy.noise=1e-12", "participation.clients=50 %", "participation.choice=poisson")
    c = private_average(config, 0, reports_of(np.full((1, 4), 0.5)), np.ones((8, 2), bool), 4)
    np.testing.assert_allclose(c, 0.5 / 4, atol=1e-6)


def epsilon(rounds: int, *overrides: str) -> float:
    pytest.importorskip("dp_accounting")
    accountant = accountant_of(config_of(*overrides))
    assert accountant is not None
    return accountant.epsilon(rounds)


def test_epsilon_is_that_of_the_gaussian_mechanism():
    """Rényi bound of the Gaussian mechanism in closed form: T/(2σ²)·α + log(1/δ)/(α − 1), from which the library's
    tighter conversion stays below; and no less than a share of it."""
    orders = np.linspace(1.01, 200, 100_000)
    for rounds in (1, 10, 100):
        classic = (rounds * orders / (2 * 1.5**2) + np.log(1e5) / (orders - 1)).min()
        assert 0.7 * classic < epsilon(rounds) <= classic


def test_more_rounds_less_noise_and_larger_samples_cost_more():
    poisson = ["participation.choice=poisson", "clients.count=100"]
    assert epsilon(1) < epsilon(2) < epsilon(50)
    assert epsilon(10, "privacy.noise=3") < epsilon(10)
    small, large = (epsilon(10, *poisson, f"participation.clients={n} %") for n in (5, 20))
    assert small < large < epsilon(10)


@pytest.mark.parametrize("luck", ["participation.dropout=0.1", "participation.availability=random"])
def test_sampling_amplifies_only_where_chance_alone_decides(luck: str):
    sampled = ["participation.clients=2", "participation.choice=uniform"]
    assert epsilon(10, *sampled, luck) == epsilon(10)


def test_a_place_taken_by_another_client_counts_twice_the_norm():
    """With 7 of 8 drawn there is hardly any amplification, and two clipped vectors differ by 2 C."""
    assert epsilon(10) < epsilon(10, "participation.clients=7")


def test_no_noise_no_accountant_and_a_missing_library_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    assert accountant_of(load_config(None, [])) is None
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"pip install 'zorba-ray\[privacy\]'"):
        accountant_of(config_of())
