"""Plans: participants and learning rates are pure functions of config and round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.schema import Config, StepConfig
from zorba_ray.rounds.draw import draw_participants, learning_rate, plan_round


@given(seed=st.integers(0, 2**64 - 1), round=st.integers(0, 10_000), count=st.integers(1, 200), data=st.data())
def test_participants_are_distinct_clients_and_always_the_same(seed: int, round: int, count: int, data: st.DataObject):
    participants = data.draw(st.integers(1, count))
    drawn = draw_participants(seed, round, count, participants)
    assert len(set(drawn)) == participants
    assert list(drawn) == sorted(drawn)
    assert drawn[0] >= 0 and drawn[-1] < count
    assert drawn == draw_participants(seed, round, count, participants)


def test_participants_are_uniform():
    hits = [0] * 10
    for round in range(4000):
        for client in draw_participants(0, round, 10, 3):
            hits[client] += 1
    assert all(abs(hit - 1200) < 5 * (4000 * 0.3 * 0.7) ** 0.5 for hit in hits)


def test_zero_stands_for_all():
    assert draw_participants(3, 0, 7, 0) == tuple(range(7))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_start_at_lr_and_end_at_their_final_share(schedule: str):
    step = StepConfig(lr=0.1, schedule=schedule, warmup=0, final=0.25)
    rates = [learning_rate(step, t, 50) for t in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.1 if schedule == "constant" else 0.025)
    assert rates == sorted(rates, reverse=True)


def test_warm_up_rises_to_lr_and_never_starts_at_zero():
    step = StepConfig(lr=0.1, warmup=4)
    rates = [learning_rate(step, t, 20) for t in range(6)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_shared_directions_have_no_client_and_private_ones_do():
    config = Config()
    config.zo.shared = True
    assert plan_round(config, 3).direction(1, client=5) == plan_round(config, 3).direction(1, client=6)
    config.zo.shared = False
    assert plan_round(config, 3).direction(1, client=0).client == 1
    assert plan_round(config, 3).direction(1, client=5) != plan_round(config, 3).direction(1, client=6)
