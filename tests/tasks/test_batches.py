"""Mini-batches: drawn by name, padded to their own longest, asking where the task wants answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.tasks import Task, TaskKind
from zorba_ray.tasks.batches import make_batch, sample_batch
from zorba_ray.tasks.examples import pack

SEQUENCES = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15]]
LABELS = np.array([0, 1, 1, 0])


def task(kind: TaskKind, tail: int = 0) -> Task:
    examples = pack(SEQUENCES, LABELS, None)
    return Task("t", kind, ("a", "b"), (1, 2), (), pad_id=99, tail=tail, train=examples, test=examples)


def test_packed_examples_come_back() -> None:
    examples = pack(SEQUENCES, LABELS, None)
    assert [list(examples[i]) for i in range(len(examples))] == SEQUENCES
    assert list(examples.lengths) == [3, 1, 5, 2]


@given(index=st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_an_answer_is_wanted_at_each_last_token(index: list[int]) -> None:
    batch = make_batch(task("words").train, np.array(index), task("words"))
    assert batch.ids.shape == (len(index), max(len(SEQUENCES[i]) for i in index))
    for row, i in enumerate(index):
        length = len(SEQUENCES[i])
        assert batch.ids[row, :length].tolist() == SEQUENCES[i]
        assert (batch.ids[row, length:] == 99).all()
        assert batch.mask[row].tolist() == [1] * length + [0] * (batch.ids.shape[1] - length)
    assert batch.ids[batch.rows, batch.cols].tolist() == [SEQUENCES[i][-1] for i in index]
    assert batch.targets.tolist() == [int(LABELS[i]) for i in index]


def test_a_tail_moves_the_answer_forward() -> None:
    batch = make_batch(task("words", 2).train, np.array([0, 2]), task("words", 2))
    assert batch.ids[batch.rows, batch.cols].tolist() == [5, 11]


def test_a_language_batch_wants_every_next_token() -> None:
    index = np.array([2, 1, 0])
    batch = make_batch(task("language").train, index, task("language"))
    pairs = [(a, b) for i in index for a, b in zip(SEQUENCES[i], SEQUENCES[i][1:], strict=False)]
    assert list(zip(batch.ids[batch.rows, batch.cols].tolist(), batch.targets.tolist(), strict=True)) == pairs
    assert batch.count == len(pairs) == 6


@settings(max_examples=100)
@given(
    shard=st.integers(1, 50),
    size=st.integers(1, 60),
    seed=st.integers(0, 2**64 - 1),
    client=st.integers(0, 9999),
    round=st.integers(0, 10**6),
    step=st.integers(0, 20),
)
def test_a_draw_is_a_subset_and_depends_on_its_name_only(
    shard: int, size: int, seed: int, client: int, round: int, step: int
) -> None:
    members = 3 * np.arange(shard) + 1
    drawn = sample_batch(members, size, seed, client, round, step)
    assert len(drawn) == min(size, shard) == len(np.unique(drawn))
    assert np.isin(drawn, members).all()
    assert np.array_equal(drawn, sample_batch(members, size, seed, client, round, step))


@pytest.mark.parametrize("other", [{"seed": 1}, {"client": 1}, {"round": 1}, {"step": 1}])
def test_another_name_draws_otherwise(other: dict[str, int]) -> None:
    name = {"seed": 0, "client": 0, "round": 0, "step": 0}
    shard = np.arange(1000)
    assert not np.array_equal(sample_batch(shard, 20, **name), sample_batch(shard, 20, **{**name, **other}))


def test_all_examples_are_drawn_equally_often() -> None:
    counts = np.zeros(20)
    for round in range(3000):
        counts[sample_batch(np.arange(20), 5, 7, 3, round)] += 1
    # each count is binomial(3000, 1/4): standard deviation 23.7
    assert np.abs(counts - 750).max() < 4 * 23.7
