"""The reference: published Philox answers, pinned bits, unit variance, shape of the distribution, independence."""

import hashlib
import math

import numpy as np
import pytest

from zorba_ray.noise import Direction, sample
from zorba_ray.noise.philox import philox
from zorba_ray.noise.quantiles import LEVEL_BITS, gaussian_levels

KINDS = ["gaussian", "rademacher"]
ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, answer):
    assert tuple(int(word) for word in philox(counter, key)) == answer


@pytest.mark.parametrize(
    ("kind", "first", "digest"),
    [
        ("gaussian", 1.5029269456863403, "7db7a4a28978a4fa"),
        ("rademacher", 1.0, "8cf86747bf1f61e7"),
    ],
)
def test_the_bits_are_pinned(kind, first, digest):
    """A ledger written by any version must replay under every later one."""
    z = sample(Direction(seed=0, round=3, direction=2, step=1, client=5), 7, 10_000, kind, offset=12345)
    assert z[0] == first
    assert hashlib.blake2b(z.astype("<f4").tobytes(), digest_size=8).hexdigest() == digest


def test_the_table_is_the_quantiles_of_the_normal():
    levels = gaussian_levels().astype(np.float64)
    assert 2 * levels.size >= 2**12
    assert np.all(np.diff(levels) > 0) and levels[0] > 0
    assert (levels**2).mean() == pytest.approx(1, abs=1e-9)
    assert (levels**4).mean() == pytest.approx(3, abs=0.003)
    assert (levels**6).mean() == pytest.approx(15, abs=0.1)
    cumulative = np.array([math.erf(z / math.sqrt(2)) for z in levels])  # of |z|
    middles = (np.arange(levels.size) + 0.5) / levels.size
    assert np.abs(cumulative - middles).max() < 3e-5  # the scaling moves a level by 4e-5 of itself
    assert 4.0 < levels[-1] < 4.02
    for t in (1, 2, 3, 3.5):
        assert (levels > t).mean() == pytest.approx(math.erfc(t / math.sqrt(2)), abs=1 / levels.size)


@pytest.mark.parametrize("kind", KINDS)
def test_values_have_unit_variance_and_the_right_moments(kind):
    n = 1 << 20
    z = sample(Direction(seed=1, round=0, direction=0), 0, n, kind).astype(np.float64)
    fourth, sixth = (3, 15) if kind == "gaussian" else (1, 1)
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs((z**2).mean() - 1) <= 5 * math.sqrt((fourth - 1) / n)
    assert abs((z**3).mean()) < 5 * math.sqrt(sixth / n)
    assert abs((z**4).mean() - fourth) < 0.003 + 5 * math.sqrt((105 if kind == "gaussian" else 1) / n)
    if kind == "gaussian":
        for t in (1, 2, 3, 3.7):
            p = math.erfc(t / math.sqrt(2)) / 2
            for tail in (z > t, z < -t):
                assert abs(tail.mean() - p) < 5 * math.sqrt(p / n) + 2**-LEVEL_BITS / 2
        assert np.unique(np.abs(z)).size == 2**LEVEL_BITS
    else:
        assert set(np.unique(z)) == {-1.0, 1.0}


BASE = {"seed": 0, "round": 0, "direction": 0, "step": 0, "client": 0, "block": 0}
OTHERS = [{name: value} for name in BASE for value in (1, 2)]  # every field moved by one and by two


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_directions_clients_steps_rounds_and_seeds_are_unrelated(kind):
    n = 1 << 15

    def draw(change):
        fields = {**BASE, **change}
        block = fields.pop("block")
        return sample(Direction(**fields), block, n, kind).astype(np.float64)

    z = np.stack([draw(change) for change in ({}, *OTHERS)])
    correlation = z @ z.T / n - np.diag((z * z).mean(axis=1))
    assert np.abs(correlation).max() < 5 / math.sqrt(n)


@pytest.mark.parametrize("kind", KINDS)
def test_neighbouring_values_are_unrelated(kind):
    n = 1 << 17
    z = sample(Direction(seed=5, round=0, direction=0), 0, n, kind).astype(np.float64)
    for lag in (1, 2, 8, 15, 16, 17, 32, 64, 128, 256, 2048, 4096):
        for power in (1, 2) if kind == "gaussian" else (1,):
            x = z**power - (z**power).mean()
            assert abs((x[lag:] * x[:-lag]).mean() / (x * x).mean()) < 5 / math.sqrt(n)


@pytest.mark.parametrize("kind", KINDS)
def test_seed_zero_is_a_seed_like_any_other(kind):
    zero = sample(Direction(0, 0, 0), 0, 1000, kind)
    assert np.array_equal(zero, sample(Direction(0, 0, 0), 0, 1000, kind))
    assert not np.array_equal(zero, sample(Direction(1, 0, 0), 0, 1000, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_any_slice_is_made_alone(kind):
    d = Direction(3, 1, 4)
    whole = sample(d, 2, 9000, kind)
    for start, stop in ((0, 1), (7, 8), (15, 17), (127, 4097), (2047, 2050), (8999, 9000), (5, 5)):
        assert np.array_equal(sample(d, 2, stop - start, kind, offset=start), whole[start:stop])
