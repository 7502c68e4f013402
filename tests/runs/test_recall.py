"""The world's state after any number of rounds follows from what was recorded of them; found by made-up worlds."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, Step
from zorba_ray.messages.reports import STATUSES
from zorba_ray.methods import METHODS
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.config import checked, load_config
from zorba_ray.world.budgets import client_budgets
from zorba_ray.world.step import step_of
from zorba_ray.world.traffic import Wire, traffic_of
from zorba_ray.world.world import Judged, World

N, L, ROUNDS = 7, 3, 8

CONFIGS = st.fixed_dictionaries({
    "seed": st.integers(0, 2**64 - 1),
    "participation.clients": st.sampled_from(["all", "3", "50 %"]),
    "participation.choice": st.sampled_from(["uniform", "samples"]),
    "participation.availability": st.sampled_from(["always", "random", "markov"]),
    "participation.dropout": st.sampled_from([0, 0.3]),
    "participation.over": st.sampled_from([0, 0.5, 2]),
    "participation.deadline": st.sampled_from([0, 0.5, 2]),
    "participation.late": st.sampled_from(["drop", "keep"]),
    "fleet.jitter": st.sampled_from([0, 1]),
    "faults.outlier": st.sampled_from([0, 3]),
    "faults.byzantine": st.sampled_from([0, 0.3]),
    "faults.lie": st.sampled_from(["scale", "random"]),
})  # fmt: skip


def config_of(chosen: dict[str, Any]) -> Config:
    fleet = "fleet.devices=[{forward: 1, up: 1e3, down: 1e3, latency: 0.1}]"
    settings = (f"{name}={value}" for name, value in chosen.items())
    config = load_config(None, [f"clients.count={N}", "step.weights=equal", fleet, *settings])
    checked(config)
    return config


def world_of(config: Config) -> World:
    wire = Wire(N, traffic_of(config), [10] * L)
    return World(config, client_budgets(config.clients, config.seed), np.arange(1.0, N + 1), wire)


def report(config: Config, round: int, client: int) -> Report:
    draw = np.random.default_rng([round, client])
    scalars = draw.normal(size=config.zo.directions).astype(np.float32)
    return Report(client, scalars, 1.0, 1, 1, float(draw.exponential()), 0.0, upload=4 * len(scalars))


def live(config: Config, world: World, rounds: range, active: np.ndarray) -> list[tuple[Judged, Step]]:
    """Rounds as the training loop does them."""
    done = []
    for t in rounds:
        chosen = world.begin(t, active)
        judged = world.judge(chosen, [report(config, t, n) for n in chosen.reporting])
        plan = plan_round(config, t, chosen.reporting)
        weights = np.arange(1.0, N + 1)
        plan_of = partial(plan_round, config)
        step = step_of(config, judged, plan, METHODS["zorba"].step, lambda _: active, plan_of, weights)
        world.end(judged, step)
        done.append((judged, step))
    return done


def told(judged: Judged) -> str:
    """All of a judged round, to the bit."""
    with np.printoptions(floatmode="unique", threshold=10**6):
        return repr(asdict(judged))


@settings(max_examples=60)
@given(chosen=CONFIGS, after=st.integers(0, ROUNDS), active=st.integers(0, 2**32))
def test_a_world_that_recalls_its_rounds_goes_on_as_if_nothing_had_happened(
    chosen: dict[str, Any], after: int, active: int
):
    config = config_of(chosen)
    matrix = np.random.default_rng(active).random((N, L)) < 0.6
    whole = live(config, world_of(config), range(ROUNDS), matrix)
    world = world_of(config)
    for judged, step in whole[:after]:
        world.recall(matrix, judged.now, judged.fates.late, step, len(judged.counted))
    rest = live(config, world, range(after, ROUNDS), matrix)
    assert [told(judged) for judged, _ in rest] == [told(judged) for judged, _ in whole[after:]]


@settings(max_examples=60)
@given(chosen=CONFIGS)
def test_every_chosen_client_has_one_fate_and_time_goes_forward(chosen: dict[str, Any]):
    config = config_of(chosen)
    now, waiting = 0.0, 0
    for judged, _ in live(config, world_of(config), range(ROUNDS), np.ones((N, L), bool)):
        assert judged.fates.client.tolist() == judged.chosen.clients.tolist()
        assert judged.chosen.start >= now and judged.now is not None and judged.now >= judged.chosen.start
        assert {STATUSES[each] for each in judged.fates.status} <= {"ok", "late", "dropped", "outlier"}
        assert len(judged.counted) == judged.count("ok") <= judged.chosen.wanted
        waiting += judged.count("late") - len(judged.arrived) if config.participation.late == "keep" else 0
        assert waiting >= 0
        now = judged.now
