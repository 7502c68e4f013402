"""A run that moves nothing says so, once; one that moves anything does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from runs.toy_runs import config_of

from zorba_ray.messages import Report, Reports, SharedStep, Step, TensorStep
from zorba_ray.rounds.draw import plan_round
from zorba_ray.rounds.loop import RoundDone
from zorba_ray.runs.still import LOST, NOISE, ULP, Still, block_rms
from zorba_ray.world.world import Chosen, Judged

SCALES = np.array([0.05, 0.02])


def told(*keys: str, step: Step | None = None, scalar: float = 1.0, loss: float = 0.5, rounds: int = 2) -> list[str]:
    config = config_of(*keys)
    guard = Still(config, SCALES)
    chosen = Chosen(0, 0.0, np.zeros(1, np.int64), np.zeros(1, np.bool_), 1, np.zeros(1, np.int64))
    report = Report(0, np.array([scalar, -scalar], dtype=np.float32), loss, 2, 1, 1.0, 0.0)
    lines = []
    for t in range(rounds):
        made = step or SharedStep(t, plan_round(config, t).lr, np.array([[scalar] * 2, [0.0] * 2], dtype=np.float32))
        judged = Judged(chosen, [], Reports.of([report]), [], None)
        lines += guard.seen(RoundDone(plan_round(config, t), judged, made, loss))
    return lines


def test_usual_runs_are_not_spoken_of() -> None:
    assert not told() and not told("step.lr=1e-7") and not told("step.lr=0")
    assert not told("step.lr=1e-30", "step.warmup=3"), "a rate that is to rise"
    assert not told("step.lr=1e-30", scalar=0.0)[1:], "a step that is no step is the perturbation's matter"


@pytest.mark.parametrize("lr", ["1e-30", "1e-60"])
def test_a_rate_at_which_nothing_moves_is_said_once(lr: str) -> None:
    (line,) = told(f"step.lr={lr}")
    assert line.startswith(f"step.lr={lr} moves nothing: the step of round 0 is ") and "\n" not in line


def test_what_counts_is_the_block_that_moves_most() -> None:
    least = LOST * ULP * SCALES[0]
    for factor, lines in ((0.9, 1), (1.1, 0)):
        vector = np.full(3, least * factor, dtype=np.float32)
        step = TensorStep(0, 0.003, (True, False), {0: vector})
        assert len(told(step=step, rounds=1)) == lines
        assert not told(step=replace(step, whole=True), rounds=1), "weights that are set anew have no length"


def test_the_expected_move_is_the_walks() -> None:
    rng = np.random.default_rng(0)
    c = rng.normal(size=(2, 4)).astype(np.float32)
    moved = 0.1 / 4 * rng.normal(size=(100_000, 4)) @ c.T.astype(np.float64)
    assert block_rms(SharedStep(0, 0.1, c), 2) == pytest.approx(moved.std(axis=0), rel=0.02)


@pytest.mark.parametrize(("estimator", "sides"), [("central", 2), ("forward", 1)])
def test_a_perturbation_that_is_lost_in_rounding_is_said_once(estimator: str, sides: int) -> None:
    least = NOISE * ULP * 0.5 / (sides * 1e-7)
    keys = ("zo.mu=1e-7", f"zo.estimator={estimator}")
    (line,) = told(*keys, scalar=0.9 * least)
    assert line.startswith("zo.mu=1e-07 is lost in rounding") and "\n" not in line
    assert not told(*keys, scalar=1.1 * least)
    assert told(*keys, scalar=0.0) and not told(*keys, scalar=float("nan"))
