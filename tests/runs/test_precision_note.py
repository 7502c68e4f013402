"""Few bits are never used without saying what they do to the scalars, and `auto` only where that is little."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from runs.toy_runs import TOY

from zorba_ray.engine import count_edges
from zorba_ray.engine import precision as engine
from zorba_ray.methods import method_of
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs import precision
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.prepare import load_problem, prepare
from zorba_ray.runs.resume import check_same
from zorba_ray.runs.simulate import simulate
from zorba_ray.runs.summary import read_summary

SMALL = ["clients.count=3", "allocation.plan=cyclic", "task.train_examples=200", "task.test_examples=40"]


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardware that multiplies bfloat16: what the choice is, does not depend on this machine."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)


def test_low_precision_reports_what_it_does_and_warns_where_that_is_much():
    told = prepare(load_config(None, [*SMALL, "model.precision=bfloat16", "zo.mu=1e-5"])).outline.notes
    correlation = float(re.search(r"correlate (-?[\d.]+) with", told[0])[1])  # type: ignore[index]
    assert correlation < 0.9
    assert len(told) == 2 and "use a larger zo.mu" in told[1]
    told = prepare(load_config(None, [*SMALL, "model.precision=bfloat16", "zo.mu=1e-2"])).outline.notes
    assert float(re.search(r"correlate (-?[\d.]+) with", told[0])[1]) > 0.95  # type: ignore[index]
    assert len(told) == 1


def test_full_precision_has_nothing_to_tell():
    assert prepare(load_config(None, SMALL)).outline.notes == []


@pytest.mark.parametrize(("mu", "taken"), [("1e-5", "float32"), ("1e-1", "bfloat16")])
def test_auto_goes_by_the_share_of_the_noise(able: None, mu: str, taken: str):
    prepared = prepare(load_config(None, [*SMALL, "model.precision=auto", f"zo.mu={mu}"]))
    assert prepared.config.model.precision == prepared.base.config.model.precision == taken
    assert prepared.base.model.config.precision == taken  # the model that hosts build
    share = float(re.search(r"adds ([\d.e+-]+) of the variance", prepared.outline.notes[0])[1])  # type: ignore[index]
    assert (share <= 0.05) == (taken == "bfloat16") and taken in prepared.outline.notes[1]


def test_auto_is_float32_where_bfloat16_is_slow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: False)
    problem = load_problem(load_config(None, [*SMALL, "model.precision=auto", "zo.mu=1e-2"]))
    assert problem.config.model.precision == "float32" and "does not multiply" in problem.notes[0]


def test_what_auto_came_to_is_the_runs(able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The ledger is that of the precision asked for by name; a resumed run does not measure again."""
    keys = [*TOY, "zo.mu=1e-2"]
    auto = load_config(None, [*keys, "model.precision=auto", f"out={tmp_path}/auto"])
    simulate(auto, tmp_path / "auto")
    named = load_config(None, [*keys, "model.precision=bfloat16", f"out={tmp_path}/named"])
    simulate(named, tmp_path / "named")
    assert (tmp_path / "auto" / LEDGER).read_bytes() == (tmp_path / "named" / LEDGER).read_bytes()
    assert stored_config(tmp_path / "auto").model.precision == "bfloat16"
    assert any("auto takes bfloat16" in note for note in read_summary(tmp_path / "auto").notes)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: False)  # on another machine
    assert check_same(auto, tmp_path / "auto").model.precision == "bfloat16"


@pytest.mark.parametrize("keys", [
    [], ["zo.directions=1", "clients.count=2"], ["participation.clients=2", "method=decomfl"], ["method=fedspzo"],
])  # fmt: skip
def test_measuring_costs_no_more_than_a_round(able: None, monkeypatch: pytest.MonkeyPatch, keys: list[str]):
    walked: list[int] = []

    def counting(model, works, *rest):  # type: ignore[no-untyped-def]
        walked.extend(sum(count_edges(work.paths, model.columns)) for work in works)
        return evaluate(model, works, *rest)

    evaluate = engine.evaluate
    monkeypatch.setattr(engine, "evaluate", counting)
    config = load_config(None, [*SMALL, *keys, "model.precision=auto"])
    problem = load_problem(config)
    paths = method_of(config).probes(plan_round(config, 0), 0, np.ones(len(problem.model.blocks), dtype=np.bool_))
    participants = 2 if "participation.clients=2" in keys else config.clients.count
    round = participants * config.zo.local_steps * sum(count_edges(paths, problem.model.columns))
    least = 8 * len(problem.model.stages)  # two mini-batches, one direction, two sides, two precisions
    assert 0 < sum(walked) <= max(round, least)
