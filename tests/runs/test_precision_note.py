"""Few bits are never used without saying what they do to the scalars."""

from __future__ import annotations

import re

from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import prepare

SMALL = ["clients.count=3", "allocation.plan=cyclic"]


def test_low_precision_reports_its_correlation_and_warns_where_it_is_low():
    told = prepare(load_config(None, [*SMALL, "model.precision=bfloat16", "zo.mu=1e-5"])).outline.notes
    correlation = float(re.search(r"correlate (-?[\d.]+) with", told[0])[1])  # type: ignore[index]
    assert correlation < 0.9
    assert len(told) == 2 and "use a larger zo.mu" in told[1]
    told = prepare(load_config(None, [*SMALL, "model.precision=bfloat16", "zo.mu=1e-2"])).outline.notes
    assert float(re.search(r"correlate (-?[\d.]+) with", told[0])[1]) > 0.95  # type: ignore[index]


def test_full_precision_has_nothing_to_tell():
    assert prepare(load_config(None, SMALL)).outline.notes == []
