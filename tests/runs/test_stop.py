"""Targets at which a run is done: where it stops, what it says, and that going on changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from zorba_ray.config.errors import ConfigError
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.records.stream import table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.past import read_past
from zorba_ray.runs.resume import check_same, keep_config, resumed_config
from zorba_ray.runs.simulate import Here, begin, simulate
from zorba_ray.runs.stop import Target
from zorba_ray.runs.summary import Summary

SMALL = [
    "clients.count=3", "rounds=6", "zo.directions=2", "clients.batch=2", "allocation.plan=cyclic", "evaluation.every=4",
    "evaluation.examples=16", "task.train_examples=200", "task.test_examples=40",
    "fleet.devices=[{forward: 1e9, latency: 1}]", "step.lr=1e-4",
]  # fmt: skip


def run(folder: Path, *keys: str) -> Summary:
    return simulate(load_config(None, [*SMALL, *keys]), folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def rounds_of(folder: Path) -> list[dict[str, float]]:
    return [row for row in table(folder).to_pylist() if row["kind"] == "round"]


def spent(folder: Path, what: str, rounds: int) -> float:
    """Of the whole run's records, by another way than the program's."""
    rows = [row for row in table(folder).to_pylist() if row["round"] < rounds]
    if what == "bytes":
        return sum(row["bytes_up"] + row["bytes_down"] for row in rows if row["kind"] == "round")
    if what == "flops":
        return sum(row["flops"] + row["backward_flops"] for row in rows if row["kind"] == "client")
    return max(row["virtual_seconds"] for row in rows if row["kind"] == "round")


@pytest.mark.parametrize("what", ["bytes", "flops", "seconds"])
def test_a_budget_ends_the_run_at_the_round_that_spends_it(tmp_path: Path, whole: Path, what: str) -> None:
    budget = spent(whole, what, 3)
    summary = run(tmp_path / "run", f"stop.{what}={budget:.0f}" if what == "bytes" else f"stop.{what}={budget!r}")
    assert summary.rounds_done == 3 and f"stop.{what}" in summary.stopped and not summary.interrupted
    lines = (whole / LEDGER).read_bytes().splitlines()
    assert (tmp_path / "run" / LEDGER).read_bytes().splitlines() == lines[: len(lines) - 3]
    evaluated = [row["round"] for row in table(tmp_path / "run").to_pylist() if row["kind"] == "evaluation"]
    assert evaluated == [0, 3], "the model that it ends with is evaluated"


@pytest.mark.parametrize(("key", "better"), [("accuracy", -1e-9), ("loss", 1e-9)])
def test_an_evaluation_ends_the_run(tmp_path: Path, whole: Path, key: str, better: float) -> None:
    rows = [row for row in table(whole).to_pylist() if row["kind"] == "evaluation"]
    summary = run(tmp_path / "run", f"stop.{key}={rows[0][key] + better!r}")
    assert summary.rounds_done == 0 and f"stop.{key}" in summary.stopped
    assert run(tmp_path / "other", f"stop.{key}={1.0 if key == 'accuracy' else 1e-6}").stopped == ""


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_resumed_run_stops_where_the_undisturbed_one_does(tmp_path: Path, whole: Path, cut: int) -> None:
    keys = [*SMALL, f"stop.flops={spent(whole, 'flops', 3)!r}"]
    undisturbed = simulate(load_config(None, keys), tmp_path / "a")
    simulation = begin(load_config(None, keys), tmp_path / "b", False, Here())
    for event in simulation.events:
        if isinstance(event, RoundRecord) and event.round + 1 == cut:
            break
    simulation.finish(interrupted=True)
    resumed = simulate(stored_config(tmp_path / "b"), tmp_path / "b", resume=True)
    assert resumed.rounds_done == undisturbed.rounds_done == 3
    assert (resumed.stopped, resumed.ledger_sha256) == (undisturbed.stopped, undisturbed.ledger_sha256)
    again = simulate(stored_config(tmp_path / "b"), tmp_path / "b", resume=True)
    assert (again.stopped, again.ledger_sha256, again.rounds_done) == (resumed.stopped, resumed.ledger_sha256, 3)


def test_what_is_recalled_is_what_was_counted(whole: Path) -> None:
    stop = load_config(None, ["stop.flops=1e30"]).stop
    recalled = Target(stop, read_past(whole))
    assert recalled.bytes == spent(whole, "bytes", 6) and recalled.seconds == spent(whole, "seconds", 6)
    assert recalled.flops == pytest.approx(spent(whole, "flops", 6), rel=1e-12)


def test_a_longer_run_has_the_ledger_of_one_that_was_long_from_the_start(tmp_path: Path, whole: Path) -> None:
    run(tmp_path / "run", "rounds=2")
    config = resumed_config(tmp_path / "run", ["rounds=6"])
    events = begin(config, tmp_path / "run", True, Here())
    assert [event.round for event in events.events
            if isinstance(event, EvaluationRecord)] == [4, 6]  # fmt: skip
    events.finish()
    assert (tmp_path / "run" / LEDGER).read_bytes() == (whole / LEDGER).read_bytes()
    assert stored_config(tmp_path / "run").rounds == 6, "and it stays that long"


def test_what_may_not_change_on_resume_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", "rounds=2")
    for keys, told in (
        (["rounds=1"], "only become longer"),
        (["zo.mu=1"], "keeps its config"),
        (["roundsx=3"], "keeps its config"),
    ):
        with pytest.raises(ConfigError, match=told):
            resumed_config(tmp_path / "run", keys)
    run(tmp_path / "falling", "rounds=2", "step.schedule=linear")
    with pytest.raises(ConfigError, match="schedule=constant"):
        resumed_config(tmp_path / "falling", ["rounds=3"])
    with pytest.raises(ConfigError, match="keeps its config"):
        resumed_config(tmp_path / "run", ["out=elsewhere"])
    assert stored_config(tmp_path / "run").rounds == 2
    now = resumed_config(tmp_path / "run", ["placement=cohort", "guard.loss_multiple=9", "checkpoint.every=3"])
    keep_config(now, tmp_path / "run")
    kept = stored_config(tmp_path / "run")
    assert (kept.guard.loss_multiple, kept.checkpoint.every, kept.placement) == (9, 3, "auto"), "where is not kept"
    (tmp_path / "run" / "lock").write_text("{}")  # of a process that died
    check_same(load_config(None, [*SMALL, "rounds=3", "placement=cohort", "out=x"]), tmp_path / "run")
    assert not (tmp_path / "run" / "lock").exists()
    with pytest.raises(ConfigError, match=r"was begun with zo\.mu=0\.001, and now it is 0\.01"):
        check_same(load_config(None, [*SMALL, "rounds=2", "zo.mu=0.01"]), tmp_path / "run")


def test_real_time_is_no_target() -> None:
    with pytest.raises(ConfigError, match="virtual clock"):
        load_config(None, ["stop.seconds=3"])
