"""The evaluation's draw: like the whole test data, whatever order its rows are in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import load_problem
from zorba_ray.tasks.draw import evaluation_draw, stratified
from zorba_ray.tasks.examples import pack


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.data())
def test_every_stratum_has_its_share(values: list[int], data: st.DataObject) -> None:
    strata = np.sort(np.array(values, dtype=np.int64))
    count = data.draw(st.integers(1, len(strata)))
    drawn = stratified(strata, count, seed=3)
    assert len(np.unique(drawn)) == count and (np.diff(drawn) > 0).all()
    kinds, sizes = np.unique(strata, return_counts=True)
    for kind, size in zip(kinds, sizes, strict=True):
        taken, exact = int((strata[drawn] == kind).sum()), count * size / len(strata)
        assert abs(taken - exact) < max(len(kinds), 1)
        assert taken >= 1 or count < len(kinds)


def test_sorted_rows_do_not_decide_what_is_evaluated() -> None:
    labels = np.repeat([0, 1], 50)
    by_label = pack([[i] for i in range(100)], labels, None)
    drawn = evaluation_draw(by_label, 10, seed=0)
    assert (drawn.labels == 1).sum() == 5
    assert [int(drawn[i][0]) // 50 for i in range(10)] == drawn.labels.tolist()  # texts stay with their labels
    by_domain = pack([[i] for i in range(100)], np.zeros(100, np.int64), np.repeat([0, 1, 2, 3], 25))
    groups = evaluation_draw(by_domain, 8, seed=0).groups
    assert groups is not None and np.bincount(groups).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("most", [0, 100, 1000])
def test_all_is_all(most: int) -> None:
    test = pack([[i] for i in range(100)], np.zeros(100, np.int64), None)
    assert evaluation_draw(test, most, seed=0) is test


def test_the_draw_is_of_seed_and_data_alone() -> None:
    def drawn(*overrides: str) -> list[int]:
        config = load_config(None, ["evaluation.examples=40", "task.train_examples=50", *overrides])
        test = load_problem(config).task.test
        assert len(test) == 40
        return [int(token) for token in test.tokens]

    assert drawn() == drawn("evaluation.every=3", "clients.count=7", "zo.directions=2")
    assert drawn() != drawn("seed=1")
