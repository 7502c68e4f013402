"""What a client weighs on average, measured on the draws and on the steps themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from world_settings import run

from zorba_ray.ledger import read_ledger
from zorba_ray.messages import Report, Reports, SharedStep
from zorba_ray.methods.zorba import step
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.config import load_config
from zorba_ray.world.participation import choose
from zorba_ray.world.step import step_of
from zorba_ray.world.weights import expected_share, mean_weights, weights_note
from zorba_ray.world.world import Chosen, Judged

HALF = np.array([9.0, *[1.0] * 9])  # ω = 0.50, and nine alike
TWO_OF_TEN = ["clients.count=10", "participation.clients=2"]


def mean(*overrides: str, weights: np.ndarray = HALF) -> tuple[np.ndarray, bool]:
    found = mean_weights(load_config(None, [*TWO_OF_TEN, *overrides]), HALF, weights)
    assert found is not None
    assert found[0].sum() == pytest.approx(1)
    return found


def test_what_the_choices_give() -> None:
    half, exact = mean()
    # in 1/5 of the rounds the heavy client meets one other (9/10); in the rest it is away
    assert not exact and half[0] == pytest.approx(0.2 * 0.9, abs=0.02)
    equal, exact = mean("step.weights=equal", weights=np.ones(10))
    assert exact and equal == pytest.approx(0.1)
    drawn, exact = mean("participation.choice=samples", "step.weights=equal", weights=np.ones(10))
    first = 0.5 + 0.5 * 9 / 17  # comes first, or second after one of the light ones
    assert not exact and drawn[0] == pytest.approx(first / 2, abs=0.02)
    everybody, exact = mean("participation.clients=all")
    assert exact and everybody[0] == 0.5
    expected, exact = mean("step.normalise=expected")
    assert exact and expected[0] == 0.5


@pytest.mark.parametrize("overrides", [
    [], ["participation.choice=poisson"], ["participation.dropout=0.3"],
    ["participation.availability=random", "participation.available=0.15"],
], ids=" ".join)
def test_divided_by_the_expected_weight_everybody_moves_by_omega(overrides: list[str]) -> None:
    """The step's coefficient of client n's scalar, averaged over rounds, is ω; and so it is for every block."""
    config = load_config(None, [*TWO_OF_TEN, "step.normalise=expected", "zo.directions=10", *overrides])
    active = np.ones((10, 2), dtype=np.bool_)
    active[1:4, 1] = False
    share, rounds = expected_share(config), 6000
    rng, total = np.random.default_rng(0), np.zeros((2, 10))
    for t in range(rounds):
        free = np.ones(10, dtype=np.bool_)
        if config.participation.availability == "random":
            free = rng.random(10) < config.participation.available
        if not free.any():
            continue
        chosen, number = choose(config.participation, 0, t, free, HALF)
        chosen = chosen[rng.random(len(chosen)) >= config.participation.dropout]
        if not len(chosen):
            continue
        reports = [Report(int(n), np.eye(10, dtype=np.float32)[n], 1.0, 1, 1, 1.0, 0.0) for n in chosen]
        none = np.zeros(len(chosen), dtype=np.bool_)
        judged = Judged(Chosen(t, 0.0, chosen, none, number, none.astype(np.int64)), [], Reports.of(reports), [], None)
        plan = plan_round(config, t)
        made = step_of(config, judged, plan, step, lambda _: active, lambda r: plan_round(config, r), HALF)
        assert isinstance(made, SharedStep)
        total += made.coefficients
    assert 0 < share < 0.21
    omega = HALF * active.T / (HALF @ active)[:, None]
    assert total / rounds == pytest.approx(omega, rel=0.15, abs=0.006)


def test_a_run_says_what_clients_weigh(tmp_path: Path) -> None:
    summary = run(tmp_path / "drawn", ["participation.clients=4", "step.weights=samples"])
    assert any("clients weigh" in note and "by draws" in note for note in summary.notes)
    summary = run(tmp_path / "all", [])
    assert not any("clients weigh" in note for note in summary.notes)
    assert weights_note(load_config(None), HALF, HALF) == ""


def test_normalising_changes_the_step_and_replays(tmp_path: Path) -> None:
    settings = ["participation.clients=4", "rounds=2"]
    run(tmp_path / "came", settings)
    run(tmp_path / "expected", [*settings, "step.normalise=expected"])
    came, expected = (read_ledger(tmp_path / name / "ledger.jsonl").entries[0].step for name in ("came", "expected"))
    assert isinstance(came, SharedStep) and isinstance(expected, SharedStep)
    moved = came.moved()
    ratio = expected.coefficients[moved] / came.coefficients[moved]
    assert ratio == pytest.approx(np.broadcast_to(ratio[:, :1], ratio.shape), rel=1e-5) and ratio.min() > 0
    assert not np.allclose(ratio, 1)
