"""The CPU kernel: the reference's bits for every size, offset, number of terms, type and number of threads."""

import os
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.noise import Direction, Terms, combine, combine_in_turn, combine_reference, sample
from zorba_ray.noise import cpu as cpu_kernel

KINDS = ["gaussian", "rademacher"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def threads():
    """Sets the number of threads and puts the old one back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def bits(tensor):
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


def terms_of(count, seed=11, scale=1.0):
    """`count` terms whose coefficients are no round numbers."""
    rng = np.random.default_rng(seed)
    return [
        (Direction(2**63 + 5, round=7, direction=p, step=p % 4, client=p % 3), scale * float(rng.standard_normal()))
        for p in range(count)
    ]


def base_of(count, seed=0, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(count).astype(np.float32) * np.float32(scale))


offsets = st.one_of(st.integers(0, 20_000), st.integers(2**32 - 5000, 2**32 + 5000), st.just((8 << 32) - 10_000))
scales = st.sampled_from([1.0, 1e-3, 1e-7, 1e-30, 1e-40, 1e4])  # float16's subnormals, float32's, float16's overflow


@settings(max_examples=150)
@given(
    size=st.one_of(st.integers(0, 300), st.integers(0, 10_000)),
    offset=offsets,
    terms=st.integers(0, 5),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    block=st.integers(0, 65535),
    seed=st.integers(0, 99),
    scale=scales,
)
def test_numba_gives_the_bits_of_the_reference(size, offset, terms, kind, dtype, block, seed, scale):
    base, named = base_of(size, seed, scale), terms_of(terms, seed, scale)
    out = torch.empty(size, dtype=dtype)
    combine(out, base, named, block, kind, offset)
    expected = torch.from_numpy(combine_reference(base.numpy(), named, block, kind, offset)).to(dtype)
    assert torch.equal(bits(out), bits(expected))


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=6), kind=st.sampled_from(KINDS), offset=st.integers(0, 5000))
def test_any_cut_into_slices_gives_the_same_bits(cuts, kind, offset):
    base, terms = base_of(20_000), terms_of(2)
    whole, parts = torch.empty_like(base), torch.empty_like(base)
    combine(whole, base, terms, 3, kind, offset)
    bounds = [0, *sorted(cuts), 20_000]
    for start, stop in pairwise(bounds):
        combine(parts[start:stop], base[start:stop], terms, 3, kind, offset + start)
    assert torch.equal(bits(whole), bits(parts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_nothing(kind, dtype, threads):
    size, offset = 5 * cpu_kernel.SMALLEST_SHARE + 123, 4097
    base, terms = base_of(size), terms_of(2)
    results = []
    for count in (1, 2, 3, 5):
        threads(count)
        out = torch.empty(size, dtype=dtype)
        combine(out, base, terms, 3, kind, offset)
        results.append(bits(out))
    assert all(torch.equal(results[0], other) for other in results[1:])


@settings(max_examples=40)
@given(
    size=st.integers(0, 3 * cpu_kernel.WINDOW),
    counts=st.lists(st.integers(0, 3), max_size=12),
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 3),
)
def test_many_moves_in_turn_are_those_one_after_the_other(size, counts, kind, count, threads):
    moves = [columns(terms_of(terms, seed)) for seed, terms in enumerate(counts)]
    one, together = base_of(size), base_of(size)
    for terms in moves:
        combine(one, one, list(terms), 5, kind)
    threads(count)
    combine_in_turn(together, moves, 5, kind)
    assert torch.equal(bits(one), bits(together))


def columns(terms):
    names = [[getattr(d, name) for d, _ in terms] for name in ("round", "direction", "step", "client")]
    return Terms(2**63 + 5, *np.array(names, np.int64).reshape(4, -1), np.array([c for _, c in terms], np.float32))


@pytest.mark.parametrize(("size", "threads_asked", "shares"), [(10**6, 1, 1), (10**6, 4, 4), (70_000, 4, 1), (0, 4, 1)])
def test_shares_follow_the_threads_and_cover_the_vector(size, threads_asked, shares):
    bounds = cpu_kernel._shares(777, size, threads_asked)
    assert len(bounds) - 1 == shares
    assert bounds[0] == 0 and bounds[-1] == size and bounds == sorted(bounds)
    assert all((777 + cut) % cpu_kernel.WINDOW == 0 for cut in bounds[1:-1])


def test_a_forked_process_does_not_wait_for_threads_it_lost(threads):
    threads(2)
    base = base_of(3 * cpu_kernel.SMALLEST_SHARE)
    here = torch.empty_like(base)
    combine(here, base, terms_of(1), 0, "rademacher")
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for ever dies of it
        out = torch.empty_like(base)
        combine(out, base, terms_of(1), 0, "rademacher")
        os._exit(0 if np.array_equal(out.numpy(), here.numpy()) else 1)  # (torch's own threads do not survive a fork)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("terms", [0, 1, 3])
def test_out_may_be_the_base(kind, terms):
    base, named = base_of(10_001), terms_of(terms)
    apart, inside = torch.empty_like(base), base.clone()
    combine(apart, base, named, 1, kind, 5)
    combine(inside, inside, named, 1, kind, 5)
    assert torch.equal(bits(apart), bits(inside))


def test_products_are_rounded_before_they_are_added():
    """base = -fl(c z) leaves exactly nothing; a fused multiply-add would leave the product's rounding error."""
    d, c = Direction(0, 0, 0), 0.1
    z = sample(d, 0, 50_000, "gaussian")
    product = np.float32(c) * z
    assert np.any(np.float64(np.float32(c)) * z.astype(np.float64) != product)  # there is an error to be seen
    out = torch.empty(50_000)
    combine(out, torch.from_numpy(-product), [(d, c)], 0, "gaussian")
    assert torch.count_nonzero(out) == 0
    combine(out, torch.zeros(50_000), [(d, c), (d, -c)], 0, "gaussian")
    assert torch.count_nonzero(out) == 0


def test_the_order_of_operations_is_the_contracts():
    """The products are summed first, in order, and the base comes last."""
    base, terms = base_of(20_000), terms_of(3)
    p = [np.float32(c) * sample(d, 4, 20_000, "gaussian") for d, c in terms]
    out = torch.empty(20_000)
    combine(out, base, terms, 4, "gaussian")
    assert np.array_equal(out.numpy(), base.numpy() + ((p[0] + p[1]) + p[2]))
    assert not np.array_equal(out.numpy(), ((base.numpy() + p[0]) + p[1]) + p[2])


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_rounding_is_torchs(dtype):
    """Every finite number of the type, the middle between neighbours, and one float32 step to either side of it."""
    patterns = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).float()
    values = patterns[patterns.isfinite()].sort().values
    middles = ((values[:-1].double() + values[1:].double()) / 2).float()
    top = torch.tensor([torch.finfo(dtype).max, 65519.0, 65520.0, 65536.0, 1e38, 3.4028235e38, torch.inf])
    base = torch.cat([values, middles, top, -top])
    infinity = torch.tensor(torch.inf)
    base = torch.cat([base, torch.nextafter(base, infinity), torch.nextafter(base, -infinity)])
    out = torch.empty(base.numel(), dtype=dtype)
    combine(out, base, [], 0, "gaussian")
    assert torch.equal(bits(out), bits(base.to(dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_nan(dtype):
    base = torch.tensor([0x7F800001, 0x7FFFFFFF, 0x7FC00000, -1], dtype=torch.int32).view(torch.float32)
    out = torch.empty(4, dtype=dtype)
    combine(out, base, terms_of(1), 0, "gaussian")
    assert out.isnan().all()


def test_zeros_keep_their_sign_when_there_is_nothing_to_add():
    base = torch.tensor([0.0, -0.0])
    out = torch.empty(2)
    combine(out, base, [], 0, "gaussian")
    assert torch.equal(bits(out), bits(base))


def test_parameters_that_require_gradients_are_written():
    base = torch.zeros(100, requires_grad=True)
    combine(base, base, terms_of(1), 0, "gaussian")
    assert torch.count_nonzero(base) > 90


@pytest.mark.parametrize(
    ("out", "base"),
    [
        (torch.empty(3), torch.empty(4)),
        (torch.empty(3), torch.empty(3, dtype=torch.float64)),
        (torch.empty(3, dtype=torch.int32), torch.empty(3)),
        (torch.empty(6)[::2], torch.empty(3)),
        (torch.empty(1, 3), torch.empty(1, 3)),
    ],
)
def test_vectors_of_another_make_are_refused(out, base):
    with pytest.raises(AssertionError):
        combine(out, base, [], 0, "gaussian")


def test_values_beyond_the_counter_are_refused():
    x = torch.zeros(2)
    with pytest.raises(ValueError, match="split the vector"):
        combine(x, x, terms_of(1), 0, "gaussian", offset=(8 << 32) - 1)
    with pytest.raises(ValueError, match="block = 65536 does not fit"):
        combine(x, x, terms_of(1), 65536, "gaussian")
    assert torch.count_nonzero(x) == 0


def test_the_kernel_compiles_where_no_cache_can_be_written(monkeypatch):
    from numba.core import caching

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])

    def double(x):
        for i in range(x.size):
            x[i] = 2 * x[i]

    x = np.ones(3, np.float32)
    cpu_kernel._compile(double, "void(f4[::1])")(x)
    assert x.tolist() == [2, 2, 2]
