"""Which learning rate an arm gets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.studies.choose import Choice, Tried, choose

NUMBERS = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([math.inf, math.nan])
SWEEPS = st.lists(
    st.tuples(st.floats(1e-6, 10), st.sampled_from(["ok", "diverged", "infeasible", "failed"]), NUMBERS, NUMBERS),
    max_size=6, unique_by=lambda tried: tried[0],
)  # fmt: skip


@given(SWEEPS, st.sampled_from(["accuracy", "loss"]))
def test_no_rate_that_worked_is_better_than_the_chosen(
    rows: list[tuple[float, str, float | None, float | None]], metric: str
) -> None:
    sweep = [Tried(*row) for row in rows]
    numbers = [t for t in sweep if t.accuracy is not None and t.loss is not None]
    worked = [t for t in numbers if t.status == "ok" and math.isfinite(t.accuracy or 0) and math.isfinite(t.loss or 0)]
    choice = choose(sweep, metric)
    assert (choice is None) == (not worked)
    if choice is None:
        return
    (best,) = [t for t in worked if t.rate == choice.rate]
    sign = -1 if metric == "accuracy" else 1
    assert all(sign * getattr(best, metric) <= sign * getattr(t, metric) for t in worked)
    rates = [t.rate for t in sweep]
    assert bool(choice.edge) == (len(rates) > 1 and choice.rate in (min(rates), max(rates)))


@pytest.mark.parametrize(
    ("losses", "choice"),
    [
        ([3.0, 2.0, 1.0], Choice(4.0, "highest")),
        ([1.0, 2.0, 3.0], Choice(1.0, "lowest")),
        ([3.0, 1.0, 2.0], Choice(2.0, "")),
        ([3.0, 1.0, None], Choice(2.0, "")),  # the larger rate diverged: the grid saw where it ends
        ([1.0, 1.0, 1.0], Choice(1.0, "lowest")),
        ([None, None, None], None),
    ],
)
def test_examples_by_loss(losses: list[float | None], choice: Choice | None) -> None:
    sweep = [Tried(2.0**i, "ok" if x is not None else "diverged", x and 0.5, x) for i, x in enumerate(losses)]
    assert choose(sweep, "loss") == choice


def test_equal_accuracies_are_told_apart_by_the_loss() -> None:
    sweep = [Tried(1.0, "ok", 0.9, 0.3), Tried(2.0, "ok", 0.9, 0.2), Tried(3.0, "ok", 0.8, 0.1)]
    assert choose(sweep, "accuracy") == Choice(2.0, "")
