"""Packing: nobody gets less than its budget, no GPU holds more than itself, work is dealt evenly and completely."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.config import load_config
from zorba_ray.runtime import launch
from zorba_ray.runtime.packing import Gpu, alike, cohort_slots, deal_work, gpu_share, pack_clients, turns, waves

GIB = 2**30


@given(
    budgets=st.lists(st.integers(1, 80 * GIB), min_size=1, max_size=30),
    memories=st.lists(st.integers(8 * GIB, 141 * GIB), min_size=1, max_size=8),
)
def test_every_client_has_room_of_its_budget_and_gpus_are_never_overbooked(budgets: list[int], memories: list[int]):
    gpus = [Gpu(f"node{i % 3}", memory) for i, memory in enumerate(memories)]
    if max(budgets) > max(memories):
        with pytest.raises(ConfigError, match="more than the largest GPU"):
            pack_clients(budgets, gpus)
        return
    slots = pack_clients(budgets, gpus)
    assert sorted(n for slot in slots for n in slot.clients) == list(range(len(budgets)))
    for slot in slots:
        assert slot.gpu is not None
        assert slot.share == pytest.approx(round(slot.share * 10_000) / 10_000)
        for n, cap in zip(slot.clients, slot.caps, strict=True):
            assert slot.share * memories[slot.gpu] >= budgets[n] * (1 - 1e-12)
            assert cap == budgets[n]
    for g in range(len(gpus)):
        assert sum(slot.share for slot in slots if slot.gpu == g) <= 1 + 1e-9


@given(budgets=st.lists(st.integers(1, 20 * GIB), min_size=1, max_size=12))
def test_nobody_waits_where_all_fit_side_by_side_in_halves(budgets: list[int]):
    """Best fit fills every GPU to a half at least before anybody waits, so with twice the room nobody does."""
    gpus = [Gpu("a", 40 * GIB)] * -(-2 * sum(budgets) // (40 * GIB))
    assert waves(pack_clients(budgets, [*gpus, gpus[0]])) == 1


def test_awkward_fractions_that_hang_in_ray_take_turns():
    """0.4 of a GPU five times on two GPUs: 2 + 2, and the fifth waits for one of them."""
    slots = pack_clients([20 * GIB] * 5, [Gpu("a", 50 * GIB), Gpu("a", 50 * GIB)])
    assert len(slots) == 4
    assert waves(slots) == 2


def test_the_context_counts_against_a_budget():
    assert pack_clients([2 * GIB], [Gpu("a", 80 * GIB, GIB // 2)])[0].caps == (2 * GIB - GIB // 2,)
    with pytest.raises(ConfigError, match=r"client 0 .* CUDA context alone takes 512 MiB"):
        pack_clients([GIB // 4], [Gpu("a", 80 * GIB, GIB // 2)])


@given(clients=st.integers(1, 50), slots=st.integers(1, 12))
def test_turns_are_even(clients: int, slots: int):
    hands = turns(clients, slots)
    assert sorted(n for hand in hands for n in hand) == list(range(clients))
    assert max(map(len, hands)) - min(map(len, hands)) <= 1


def test_a_budget_larger_than_any_gpu_is_refused_as_such():
    message = r"client 1 has a budget of 100 GiB, more than the largest GPU here \(80.0 GiB\)"
    with pytest.raises(ConfigError, match=message):
        pack_clients([GIB, 100 * GIB], [Gpu("a", 80 * GIB), Gpu("b", 40 * GIB)])


def test_several_sizes_of_gpu_are_respected():
    slots = pack_clients([60 * GIB, 20 * GIB], [Gpu("a", 24 * GIB), Gpu("b", 80 * GIB)])
    assert [(slot.gpu, slot.share) for slot in slots] == [(1, 0.75), (1, 0.25)]  # where it leaves the least room
    slots = pack_clients([60 * GIB, 22 * GIB], [Gpu("a", 24 * GIB), Gpu("b", 80 * GIB)])
    assert [slot.gpu for slot in slots] == [1, 0]
    (slot,) = pack_clients([60 * GIB, 30 * GIB], [Gpu("a", 24 * GIB), Gpu("b", 80 * GIB)])
    assert (slot.gpu, slot.clients, slot.caps) == (1, (0, 1), (60 * GIB, 30 * GIB))  # one after the other


def test_shares_are_rounded_up_to_what_ray_counts():
    assert gpu_share(1, 80 * GIB) == 1e-4
    assert gpu_share(24 * GIB, 80 * GIB) == 0.3
    assert gpu_share(80 * GIB, 80 * GIB) == 1.0


def test_cohorts_stand_on_gpus_or_on_cpus():
    assert [slot.gpu for slot in cohort_slots(5, [Gpu("a", GIB), Gpu("a", GIB)])] == [0, 1]
    assert [slot.gpu for slot in cohort_slots(3, [])] == [None] * 3


@given(costs=st.lists(st.integers(1, 100), max_size=60), hosts=st.integers(1, 9))
def test_work_is_dealt_completely_and_evenly(costs: list[int], hosts: int):
    hands = deal_work(costs, hosts)
    assert sorted(item for hand in hands for item in hand) == list(range(len(costs)))
    loads = [sum(costs[item] for item in hand) for hand in hands]
    assert max(loads) - min(loads) <= max(costs, default=0)


@given(rows=arrays(np.bool_, st.tuples(st.integers(0, 9), st.sampled_from([1, 3, 8, 70, 130]))))
def test_like_rows_are_found(rows: np.ndarray):
    first, which = alike(rows)
    assert (rows[first][which] == rows).all()
    assert len(first) == len({row.tobytes() for row in rows})


@pytest.mark.parametrize(("fuse", "kind"), [("1", "per_client"), ("auto", "per_client"), ("4", "cohort")])
def test_fused_clients_are_carried_by_cohorts_on_gpus_too(fuse: str, kind: str):
    """Where one actor per client would have room, which `auto` then takes."""
    config = load_config(None, [f"clients.fuse={fuse}"])
    placed = launch.place_on_gpus(config, [4 * GIB] * 4, [Gpu("a", 24 * GIB)], [None])
    assert placed.kind == kind
    assert len(placed.slots) == (1 if kind == "cohort" else 4)
