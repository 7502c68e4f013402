"""Names of numbers: two different names never share a counter, a call or a stream; what does not fit is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.noise import Direction, Domain, generator, sample
from zorba_ray.noise.identity import CALL_BITS, WIDTHS, Terms, pack, pack_terms
from zorba_ray.noise.layout import LANES, check_range, place, values_per_call

FIELDS = {"seed": 64, "round": 24, "direction": 16, "step": 12, "client": 24, "block": 16}
COLUMNS = ("round", "direction", "step", "client")
identities = st.fixed_dictionaries(
    {
        name: st.one_of(st.integers(0, 3), st.integers(0, 2**bits - 1), st.just(2**bits - 1))
        for name, bits in FIELDS.items()
    }
)


def packed(identity):
    identity = dict(identity)
    return pack(block=identity.pop("block"), direction=Direction(**identity))


@given(identities, identities)
def test_names_and_counters_are_one_to_one(one, other):
    assert (packed(one) == packed(other)) == (one == other)


@given(identities, st.sampled_from(sorted(FIELDS)), st.data())
def test_changing_any_one_field_changes_the_counter(identity, name, data):
    value = data.draw(st.integers(0, 2 ** FIELDS[name] - 1).filter(lambda v: v != identity[name]))
    assert packed(identity) != packed({**identity, name: value})


@given(identities)
def test_the_counter_gives_the_name_back(identity):
    key, words = packed(identity)
    assert all(0 <= word < 2**32 for word in (*key, *words))
    counter, found = words[0] | words[1] << 32 | words[2] << 64, {"seed": key[0] | key[1] << 32}
    for name, bits in WIDTHS.items():
        found[name], counter = counter & (1 << bits) - 1, counter >> bits
    assert found.pop("domain") == Domain.DIRECTION
    assert found == identity


@given(st.lists(identities, max_size=4))
def test_names_by_columns_are_packed_as_one_by_one(many):
    block, seed = (many[0]["block"], many[0]["seed"]) if many else (0, 0)
    listed = [(Direction(seed, *(each[name] for name in COLUMNS)), 0.5) for each in many]
    columns = by_columns(seed, many)
    assert list(columns) == listed and len(columns) == len(listed)
    for one, other in zip(pack_terms(columns, block), pack_terms(listed, block), strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def by_columns(seed, many):
    names = (np.array([each[name] for each in many], np.int64) for name in COLUMNS)
    return Terms(seed, *names, np.full(len(many), 0.5, np.float32))


@pytest.mark.parametrize("name", [*FIELDS])
@pytest.mark.parametrize("beyond", [False, True])
def test_a_field_that_does_not_fit_is_refused(name, beyond):
    identity = dict.fromkeys(FIELDS, 0) | {name: 2 ** FIELDS[name] if beyond else -1}
    with pytest.raises(ValueError, match=rf"{name} = -?\d+ does not fit its {FIELDS[name]} bits"):
        packed(identity)
    with pytest.raises(ValueError, match=rf"{name} = -?\d+ does not fit its {FIELDS[name]} bits"):
        pack_terms(by_columns(identity["seed"], [identity]), identity["block"])


def test_the_documented_widths_fill_the_counter():
    assert CALL_BITS + sum(WIDTHS.values()) == 128
    assert {name: WIDTHS[name] for name in FIELDS if name != "seed"} == {n: b for n, b in FIELDS.items() if n != "seed"}


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_no_two_values_share_bits_of_a_call(kind):
    per_call = values_per_call(kind)
    index = np.arange(8 * LANES * per_call)
    call, piece = place(index, kind)
    assert len(set(zip(call.tolist(), piece.tolist(), strict=True))) == index.size
    assert piece.min() == 0 and piece.max() == per_call - 1
    assert call.max() == 8 * LANES - 1  # every bit of every call is used before the next group


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_the_last_value_has_the_last_call_and_the_next_is_refused(kind):
    limit = values_per_call(kind) << 32
    assert place(np.array([limit - 1]), kind)[0] == 2**32 - 1
    check_range(kind, limit - 1, 1)
    with pytest.raises(ConfigError, match="its counter can name"):
        sample(Direction(0, 0, 0), 0, 1, kind, offset=limit)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="unknown kind 'uniform'"):
        sample(Direction(0, 0, 0), 0, 1, "uniform")


def test_a_direction_is_a_value():
    d = Direction(1, 2, 3)
    assert d == Direction(1, 2, 3, 0, 0) and hash(d) == hash(Direction(1, 2, 3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        d.seed = 2


names = st.tuples(st.integers(0, 3), st.sampled_from(Domain), st.lists(st.integers(0, 3), max_size=6).map(tuple))


@given(names, names)
def test_streams_of_different_names_start_apart_and_stay_apart(one, other):
    """The state (key, upper 192 bits of the counter) is the name; draws only move the lower 64 bits."""

    def place_of(seed, domain, indices):
        state = generator(seed, domain, *indices).bit_generator.state["state"]
        assert state["counter"][0] == 0
        return *state["key"].tolist(), *state["counter"][1:].tolist()

    assert (place_of(*one) == place_of(*other)) == (one == other)


def test_a_stream_is_reproducible_and_pinned():
    assert generator(0, Domain.BATCH, 3, 4).integers(0, 2**32, 4).tolist() == [
        2270726132, 2826931261, 2260312327, 1925164182,
    ]  # fmt: skip


def test_streams_are_unrelated():
    draws = [
        generator(seed, domain, *indices).standard_normal(20_000)
        for seed, domain, indices in [
            (0, Domain.BATCH, ()), (0, Domain.BATCH, (0,)), (0, Domain.BATCH, (0, 0)), (0, Domain.BATCH, (0, 1)),
            (0, Domain.BATCH, (1, 0)), (0, Domain.DATA, (0,)), (1, Domain.BATCH, (0,)),
        ]
    ]  # fmt: skip
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("indices", [(2**32,), (-1,), (0,) * 7])
def test_stream_indices_that_do_not_fit_are_refused(indices):
    with pytest.raises(ConfigError):
        generator(0, Domain.DATA, *indices)
