"""Liars, outliers, and the step of reports of several rounds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zorba_ray.config.schema import Config, FaultsConfig
from zorba_ray.messages import CombinedStep, Report, Reports, SharedStep
from zorba_ray.methods import METHODS
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.config import load_config
from zorba_ray.world.faults import liars, lie, outliers
from zorba_ray.world.step import step_of
from zorba_ray.world.world import Chosen, Judged, Pending

SCALARS = arrays(np.float32, 4, elements=st.floats(-10, 10, width=32))


def is_finite(*reports: Report) -> bool:
    return bool(Reports.of(reports).finite().all())


def report(client: int, scalars: object, loss: float = 1.0) -> Report:
    return Report(client, np.asarray(scalars, dtype=np.float32), loss, 1, 1, 1.0, 1.0)


@given(count=st.integers(1, 50), share=st.floats(0, 1), seed=st.integers(0, 2**64 - 1))
def test_liars_are_a_share_of_the_clients_fixed_by_the_seed(count: int, share: float, seed: int):
    config = Config(seed=seed)
    config.clients.count, config.faults.byzantine = count, share
    assert liars(config).sum() == round(share * count)
    assert liars(config).tolist() == liars(config).tolist()


@given(SCALARS)
def test_what_liars_say(scalars: np.ndarray):
    honest = report(3, scalars)

    def told(how: str, round: int = 0) -> np.ndarray:
        return lie(FaultsConfig(lie=how, lie_scale=5.0), 0, round, honest).scalars

    assert (told("sign_flip") == -scalars).all()
    assert (told("scale") == np.float32(5) * scalars).all()
    assert not is_finite(report(3, told("nan")))
    assert (told("random") == told("random")).all() and told("random").dtype == np.float32
    if np.abs(scalars).max() > 1e-3:
        assert (told("random") != told("random", round=1)).any()


def test_liars_lie_about_vectors_too():
    vector = np.array([1, -2], dtype=np.float32)
    trained = replace(report(3, []), vectors=(None, vector))
    told = lie(FaultsConfig(lie="sign_flip"), 0, 0, trained)
    assert told.vectors is not None and told.vectors[0] is None and (told.vectors[1] == -vector).all()
    assert is_finite(trained) and not is_finite(lie(FaultsConfig(lie="nan"), 0, 0, trained))


def test_random_lies_have_the_size_of_the_truth():
    sizes = [lie(FaultsConfig(lie="random"), 0, t, report(1, [3, -3, 3, -3])).scalars for t in range(500)]
    assert np.std(sizes) == pytest.approx(3, rel=0.1)


def test_reports_are_finite_in_loss_and_scalars():
    assert is_finite(report(0, [1, 2]))
    assert not is_finite(report(0, [1, np.inf])) and not is_finite(report(0, [1, 2], loss=np.nan))


@pytest.mark.parametrize("comparable", [True, False])
def test_one_far_away_is_found_and_honest_ones_are_not(comparable: bool):
    rng = np.random.default_rng(0)
    honest = [rng.normal(2, 1, 8).astype(np.float32) for _ in range(20)]
    far = np.full(8, 100, dtype=np.float32)
    assert outliers(10, [*honest, far], [*honest, far], comparable) == [False] * 20 + [True]


def test_a_flipped_sign_shows_only_against_shared_directions():
    rng = np.random.default_rng(0)
    honest = [(5 + rng.normal(0, 0.1, 8)).astype(np.float32) for _ in range(9)]
    flipped = -honest[0]
    assert outliers(8, [*honest, flipped], [flipped], comparable=True) == [True]
    assert outliers(8, [*honest, flipped], [flipped], comparable=False) == [False]


def test_two_clients_or_equal_ones_judge_nobody():
    one = np.ones(3, dtype=np.float32)
    assert outliers(1, [one, 9 * one], [one, 9 * one], True) == [False, False]
    assert outliers(1, [one] * 5, [one, 9 * one], True) == [False, False]


@given(
    scalars=arrays(np.float32, (6, 2), elements=st.floats(-5, 5, width=32)),
    active=arrays(np.bool_, (6, 3)), late=st.lists(st.booleans(), min_size=6, max_size=6),
)  # fmt: skip
def test_on_time_and_late_clients_are_normalised_together(scalars: np.ndarray, active: np.ndarray, late: list[bool]):
    """The coefficients of a block, summed over the parts' directions of equal index, are the plain weighted mean."""
    config = load_config(None, ["clients.count=6", "zo.directions=2", "step.lr=1"])
    weights = np.arange(1.0, 7.0)
    reports = [report(n, row) for n, row in enumerate(scalars)]
    chosen = Chosen(5, 0.0, np.arange(6), np.zeros(6, bool), 6, np.zeros(6, np.int64))
    arrived = [Pending(3 + n % 2, 1.0, each) for n, each in enumerate(reports) if late[n]]
    counted = [each for n, each in enumerate(reports) if not late[n]]
    plan = plan_round(config, 5)
    step = step_of(config, Judged(chosen, [], Reports.of(counted), arrived, 1.0), plan, METHODS["zorba"].step,
                   lambda t: active, partial(plan_round, config), weights)  # fmt: skip
    assert isinstance(step, CombinedStep if any(late) else SharedStep)
    rounds = set()
    for block in range(3):
        moved = np.zeros(2)
        for direction, coefficient in step.terms(0, block):
            moved[direction.direction] += -2 * coefficient
            rounds.add(direction.round)
        members = np.flatnonzero(active[:, block])
        mean = np.average(scalars[members], axis=0, weights=weights[members]) if len(members) else np.zeros(2)
        np.testing.assert_allclose(moved, mean, atol=2e-5)
    assert rounds <= {5} | {each.round for each in arrived}
