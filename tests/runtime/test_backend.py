"""What the backend asks of actors, without any."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zorba_ray.messages import nothing_from
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.config import load_config
from zorba_ray.runtime.backend import RayBackend
from zorba_ray.runtime.news import News

CONFIG = load_config(None, ["method=zorba"])


class Noting:
    """A pool that answers for its members with nothing, and notes what they were asked."""

    def __init__(self, hands: list[list[int]]):
        self.members = [SimpleNamespace(clients=clients) for clients in hands]
        self.watch = SimpleNamespace(news=News())
        self.asked: list[tuple[Any, ...]] = []

    def run(self, call: str, work: list[tuple[Any, tuple[Any, ...]]], drop: bool, what: str) -> list[Any]:
        self.asked = [arguments for _, arguments in work]
        return [[nothing_from(n, "lost") for n in clients] for _, clients, _ in self.asked]


@pytest.mark.parametrize("per_client", [True, False])
@pytest.mark.parametrize("count", [3, 40])
def test_every_participant_is_asked_once_and_named_to_nobody_else(per_client: bool, count: int) -> None:
    pool = Noting([[n] for n in range(count)] if per_client else [[], []])
    plan, active = plan_round(CONFIG, 3, range(count)), np.ones((count, 4), dtype=bool)
    reports = RayBackend(pool, lambda row: 1, 8, 8).probe(plan, active)  # type: ignore[arg-type]
    assert [report.client for report in reports] == list(range(count))
    assert sorted(n for _, clients, _ in pool.asked for n in clients) == list(range(count))
    for told, clients, rows in pool.asked:
        assert list(told.participants) == clients.tolist() and len(rows) == len(clients)
        assert (told.round, told.seed, told.method) == (plan.round, plan.seed, plan.method)


def test_what_a_client_is_told_does_not_grow_with_the_number_of_clients() -> None:
    sizes = []
    for count in (10, 1000):
        pool = Noting([[n] for n in range(count)])
        plan, active = plan_round(CONFIG, 3, range(count)), np.ones((count, 4), dtype=bool)
        RayBackend(pool, lambda row: 1, 8, 8).probe(plan, active)  # type: ignore[arg-type]
        sizes.append(len(pickle.dumps(pool.asked[5])))
    assert sizes[0] == sizes[1]
