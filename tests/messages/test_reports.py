"""Reports as arrays say what single reports say."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zorba_ray.messages import Report, Reports, clients_of, scalars_of
from zorba_ray.messages.reports import STATUSES

REAL = st.floats(allow_nan=False)


@st.composite
def single(draw: st.DrawFn) -> Report:
    scalars = np.array(draw(st.lists(st.floats(width=32), max_size=3)), dtype=np.float32)
    size = st.integers(0, 2**40)
    numbers = st.sampled_from([np.ones(2, np.float32), np.full(1, np.inf, dtype=np.float32)])
    vectors = draw(st.none() | st.tuples(st.none(), numbers))
    return Report(
        draw(st.integers(0, 2**31)), scalars, draw(REAL), draw(size), draw(size), draw(REAL), draw(REAL), draw(REAL),
        vectors, ((), (("w", (2,)),)) if vectors else (), draw(st.sampled_from(STATUSES)), draw(size), draw(size),
        draw(size),
    )  # fmt: skip


MANY = st.lists(single(), max_size=6)


def text(report: Report) -> str:
    return repr(replace(report, scalars=report.scalars.tobytes()))  # type: ignore[arg-type]


@given(MANY)
def test_reports_come_out_as_they_went_in(singles: list[Report]) -> None:
    together = Reports.of(singles)
    assert [text(each) for each in together] == [text(each) for each in singles] and len(together) == len(singles)
    assert [text(each) for each in pickle.loads(pickle.dumps(together))] == [text(each) for each in singles]
    assert Reports.of(together) is together
    assert clients_of(together).tolist() == clients_of(singles).tolist() == [each.client for each in singles]


@given(MANY, MANY, st.data())
def test_parts_are_joined_and_taken_as_lists_are(some: list[Report], others: list[Report], data: st.DataObject) -> None:
    both = Reports.joined([Reports.of(some), Reports.of(others)])
    singles = [*some, *others]
    assert [text(each) for each in both] == [text(each) for each in singles]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(both), max_size=len(both))), dtype=np.bool_)
    taken = [each for each, on in zip(singles, mask, strict=True) if on]
    assert [text(each) for each in both.take(mask)] == [text(each) for each in taken]
    ordered = sorted(singles, key=lambda each: each.client)
    assert [text(each) for each in both.in_order()] == [text(each) for each in ordered]
    assert [text(each) for each in both[1:]] == [text(each) for each in singles[1:]]


@given(MANY)
def test_who_sent_what_is_no_number_is_found(singles: list[Report]) -> None:
    def sent(report: Report) -> list[NDArray[np.float32]]:
        return [report.scalars, *(vector for vector in report.vectors or () if vector is not None)]

    fine = [np.isfinite(each.loss) and all(np.isfinite(part).all() for part in sent(each)) for each in singles]
    assert Reports.of(singles).finite().tolist() == fine


@given(st.integers(1, 5), st.integers(0, 4))
def test_equally_many_scalars_make_a_matrix(clients: int, scalars: int) -> None:
    rho = np.arange(clients * scalars, dtype=np.float32).reshape(clients, scalars)
    singles = [Report(n, row, 1.0, 1, 1, 1.0, 1.0) for n, row in enumerate(rho)]
    assert (scalars_of(Reports.of(singles)) == rho).all() and (scalars_of(singles) == rho).all()
