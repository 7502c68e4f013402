"""Who takes part: the right number, the right odds, always the same draw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ParticipationConfig
from zorba_ray.config.units import parse_clients
from zorba_ray.runs.config import load_config
from zorba_ray.world.availability import Availability, read_trace
from zorba_ray.world.participation import choose, dropped, typical, wanted

ROUNDS = 4000


FLEET = "fleet.devices=[{forward: 1}]"


@pytest.mark.parametrize(
    ("text", "clients"), [("all", 40), ("7", 7), ("10 %", 4), ("2.5%", 1), ("100 %", 40), (" 12 ", 12)]
)
def test_a_number_of_clients_is_said_in_three_ways(text: str, clients: int):
    assert wanted(ParticipationConfig(clients=text), 40) == clients


@pytest.mark.parametrize("text", ["", "0", "41", "1.5", "-3", "0 %", "101 %", "some", "5 percent"])
def test_other_texts_are_refused(text: str):
    with pytest.raises(ConfigError):
        parse_clients(text, 40)


@given(
    seed=st.integers(0, 2**64 - 1), round=st.integers(0, 2**24), free=st.lists(st.booleans(), min_size=1, max_size=60),
    choice=st.sampled_from(["uniform", "samples"]), share=st.integers(1, 100), over=st.sampled_from([0.0, 0.3, 1.0]),
)  # fmt: skip
def test_the_chosen_are_available_distinct_as_many_as_asked_and_always_the_same(
    seed: int, round: int, free: list[bool], choice: str, share: int, over: float
):
    section = ParticipationConfig(clients=f"{share} %", choice=choice, over=over)
    available, samples = np.array(free), np.arange(1.0, len(free) + 1)
    chosen, number = choose(section, seed, round, available, samples)
    again, _ = choose(section, seed, round, available, samples)
    assert chosen.tolist() == again.tolist() == sorted(set(chosen.tolist()))
    assert available[chosen].all()
    assert number == min(wanted(section, len(free)), available.sum())
    assert number <= len(chosen) <= max(number, np.ceil((1 + over) * number))
    assert len(chosen) == min(np.ceil(round_off((1 + over) * number)), available.sum())


def round_off(value: float) -> float:
    return float(f"{value:.9f}")


def test_who_has_more_samples_is_chosen_more_often_in_proportion_for_a_single_draw():
    section = ParticipationConfig(clients="1", choice="samples")
    samples = np.array([1.0, 2.0, 3.0, 4.0])
    hits = Counter(int(choose(section, 0, t, np.ones(4, bool), samples)[0][0]) for t in range(ROUNDS))
    for n, share in enumerate(samples / 10):
        assert abs(hits[n] - ROUNDS * share) < 5 * np.sqrt(ROUNDS * share * (1 - share))


def test_poisson_takes_each_by_its_own_luck():
    section = ParticipationConfig(clients="30 %", choice="poisson")
    sizes = np.array([len(choose(section, 1, t, np.ones(20, bool), np.ones(20))[0]) for t in range(ROUNDS)])
    assert abs(sizes.mean() - 6) < 5 * np.sqrt(20 * 0.21 / ROUNDS)
    assert abs(sizes.var() - 20 * 0.21) < 0.5


def test_dropouts_have_their_share_and_do_not_depend_on_who_else_was_chosen():
    section = ParticipationConfig(dropout=0.25)
    everyone, some = np.arange(12), np.array([1, 5, 7])
    share = np.mean([dropped(section, 4, t, everyone, 12) for t in range(1000)])
    assert abs(share - 0.25) < 5 * np.sqrt(0.1875 / 12000)
    for t in range(20):
        assert dropped(section, 4, t, some, 12).tolist() == dropped(section, 4, t, everyone, 12)[some].tolist()


def test_random_availability_has_its_share():
    pattern = Availability(ParticipationConfig(availability="random", available=0.7), 3, 30)
    assert abs(np.mean([pattern.at(t, 0.0) for t in range(500)]) - 0.7) < 5 * np.sqrt(0.21 / 15000)


def test_markov_stretches_have_their_mean_lengths_from_the_first_round_on():
    section = ParticipationConfig(availability="markov", up=6, down=3)
    pattern = Availability(section, 5, 400)
    states = np.array([pattern.at(t, 0.0) for t in range(300)])
    assert abs(states[0].mean() - 2 / 3) < 5 * np.sqrt(2 / 9 / 400)
    assert abs(states.mean() - 2 / 3) < 0.02
    leave = (states[:-1] & ~states[1:]).sum() / states[:-1].sum()
    back = (~states[:-1] & states[1:]).sum() / (~states[:-1]).sum()
    assert leave == pytest.approx(1 / 6, rel=0.05) and back == pytest.approx(1 / 3, rel=0.05)


@given(asked=st.lists(st.integers(0, 30), min_size=1, max_size=10))
def test_a_markov_pattern_does_not_depend_on_what_was_asked_before(asked: list[int]):
    section = ParticipationConfig(availability="markov", up=3, down=2)
    pattern = Availability(section, 9, 8)
    for t in asked:
        assert pattern.at(t, 0.0).tolist() == Availability(section, 9, 8).at(t, 0.0).tolist()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=8))
def test_both_forms_of_a_trace_say_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]):
    folder = tmp_path_factory.mktemp("traces")
    (folder / "t.csv").write_text("to,client,from\n" + "".join(f"{a + d},{n},{a}\n" for n, a, d in rows))
    lines = "".join(f'{{"client": {n}, "from": {a}, "to": {a + d}}}\n' for n, a, d in rows)
    (folder / "t.jsonl").write_text(lines)
    for name in ("t.csv", "t.jsonl"):
        trace = read_trace(folder / name, 5)
        for moment in range(16):
            free = {n for n, a, d in rows if a <= moment < a + d}
            assert set(np.flatnonzero(trace.at(moment, 5)).tolist()) == free


BAD = [
    ("t.csv", "client,from\n0,1\n", "line 2: no 'to'"),
    ("t.csv", "client,from,to\nx,1,2\n", "must be numbers"),
    ("t.csv", "client,from,to\n5,1,2\n", "client 5 is not one of 0 to 4"),
    ("t.csv", "client,from,to\n1.5,1,2\n", "client 1.5"),
    ("t.csv", "client,from,to\n1,2,2\n", "no stretch of time"),
    ("t.csv", "client,from,to\n1,-1,2\n", "no stretch of time"),
    ("t.csv", "client,from,to\n1,nan,2\n", "no stretch of time"),
    ("t.csv", "client,from,to\n", "nobody is ever available"),
    ("t.jsonl", "[1]\n", "not an object"),
    ("t.jsonl", "{\n", "line 1: not JSON"),
    ("t.txt", "", ".jsonl or .csv"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD, ids=str)
def test_a_bad_trace_is_refused_in_one_line(tmp_path: Path, name: str, text: str, said: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_trace(tmp_path / name, 5)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_trace_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_trace(tmp_path / "none.csv", 5)


@pytest.mark.parametrize(
    ("overrides", "number"),
    [
        ([], 0), (["participation.clients=5"], 5), (["participation.clients=20 %"], 4),
        (["participation.dropout=0.25"], 15),
        (["participation.availability=random", "participation.available=0.5"], 10),
        (["participation.clients=8", "participation.over=0.5", "participation.dropout=0.25", FLEET], 8),
    ],
)  # fmt: skip
def test_the_allocations_bound_is_told_how_many_report(overrides: list[str], number: int):
    assert typical(load_config(None, overrides)) == number
