"""Which runs count as done, and what a folder's records come to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.records.schema import ClientRecord, EvaluationRecord, RoundRecord, to_table
from zorba_ray.runs.folder import CannotWrite
from zorba_ray.runs.lock import Held
from zorba_ray.runtime.waiting import NoRoom
from zorba_ray.studies import carry
from zorba_ray.studies.cells import cells, final_runs, sweep_runs
from zorba_ray.studies.collect import curve_of
from zorba_ray.studies.spec import Arm, Study, Tuning
from zorba_ray.studies.store import Outcome, again, begun, choice_of, keep, outcome_of, resumed, swept
from zorba_ray.world.world import Diverged

STUDY = Study(
    set=["task.validation_examples=50"], arms=[Arm(name="one")], seeds=[0], tuning=Tuning([1.0, 2.0, 3.0]),
)  # fmt: skip


def test_a_study_has_its_folder_alone_for_as_long_as_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with begun(STUDY) as first, begun(STUDY) as second:
        assert first != second and resumed(first) == resumed(second)
        with pytest.raises(Held, match=rf"{first} is in use by process \d+ on "), again(first):
            pass
    with again(first) as study:
        assert dataclasses.replace(study, out="") == STUDY
        with pytest.raises(Held), again(first):
            pass
    named = dataclasses.replace(STUDY, out=str(first))
    with pytest.raises(ConfigError, match="holds a study; go on with it by --resume"), begun(named):
        pass
    assert [path.name for path in first.iterdir()] == ["study.yaml"]


def test_a_mistake_before_the_first_run_leaves_nothing_and_an_interrupt_what_goes_on(tmp_path: Path) -> None:
    study = dataclasses.replace(STUDY, out=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="no cluster"), begun(study):
        raise ConfigError("no cluster answers")
    assert not (tmp_path / "out").exists()
    with pytest.raises(KeyboardInterrupt), begun(study):
        raise KeyboardInterrupt
    with again(tmp_path / "out"):
        assert (tmp_path / "out" / "lock").exists()


def test_a_full_disk_is_no_result_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise CannotWrite("cannot write: No space left on device")

    monkeypatch.setattr(carry, "drive", full)
    (cell,) = cells(STUDY)
    assert carry.carry(sweep_runs(STUDY, cell)[0].config, tmp_path / "run").status == "failed"


@pytest.mark.parametrize(
    ("error", "status"),
    [(Diverged("far"), "diverged"), (ConfigError("no"), "infeasible"), (NoRoom("gone"), "lost"),
     (KeyError("x"), "failed")],
)  # fmt: skip
def test_what_goes_wrong_is_a_result_but_for_a_machine_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str
) -> None:
    def wrong(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(carry, "drive", wrong)
    (cell,) = cells(STUDY)
    assert carry.carry(cell.config, tmp_path / "run").status == status


def test_a_part_of_the_same_run_is_gone_on_with_and_another_is_cleared(tmp_path: Path) -> None:
    (cell,) = cells(STUDY)
    config = dataclasses.replace(cell.config, out="")
    assert not carry.can_go_on(config, tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "run" / "ledger.jsonl").write_text("")
    assert carry.can_go_on(config, tmp_path / "run")
    assert not carry.can_go_on(dataclasses.replace(config, seed=7), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_kept_is_done_and_a_failed_run_is_done_again(tmp_path: Path) -> None:
    (cell,) = cells(STUDY)
    run, other = sweep_runs(STUDY, cell)[:2]
    assert outcome_of(run, tmp_path) is None
    for status, done in (("failed", False), ("ok", True), ("diverged", True), ("infeasible", True)):
        keep(run, Outcome(status, "why", 1.5), tmp_path)
        outcome = outcome_of(run, tmp_path)
        assert (outcome is not None) == done
        assert outcome is None or (outcome.status, outcome.message, outcome.seconds) == (status, "why", 1.5)
    assert outcome_of(other, tmp_path) is None
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_run_with_another_config_is_not_done(tmp_path: Path) -> None:
    (cell,) = cells(STUDY)
    keep(final_runs(STUDY, cell, 1.0)[0], Outcome("ok", "", 1.0), tmp_path)
    changed = Study(set=[*STUDY.set, "zo.mu=0.5"], arms=STUDY.arms, seeds=[0], tuning=STUDY.tuning)
    (other,) = cells(changed)
    assert outcome_of(final_runs(STUDY, cell, 1.0)[0], tmp_path) is not None
    assert outcome_of(final_runs(changed, other, 1.0)[0], tmp_path) is None


def test_a_torn_outcome_is_not_done(tmp_path: Path) -> None:
    (cell,) = cells(STUDY)
    run = sweep_runs(STUDY, cell)[0]
    keep(run, Outcome("ok", "", 1.0), tmp_path)
    (tmp_path / run.folder / "outcome.json").write_text('{"status": "o')
    assert outcome_of(run, tmp_path) is None


def test_no_rate_is_chosen_where_none_worked(tmp_path: Path) -> None:
    (cell,) = cells(STUDY)
    for run in sweep_runs(STUDY, cell):
        keep(run, Outcome("infeasible", "too small", 0.1), tmp_path)
    assert choice_of(STUDY, cell, tmp_path) is None


def test_the_rates_of_a_search_are_those_that_lie_there(tmp_path: Path) -> None:
    tuning = dataclasses.replace(STUDY.tuning, by="tune", search="random")
    study = dataclasses.replace(STUDY, tuning=tuning)
    (cell,) = cells(study)
    assert swept(study, cell, tmp_path) == []
    for run in sweep_runs(study, cell, [0.00412, 0.0071]):
        keep(run, Outcome("ok", "", 1.0), tmp_path)
    assert [run.rate for run in swept(study, cell, tmp_path)] == [0.00412, 0.0071]
    assert len(swept(STUDY, cell, tmp_path)) == 3, "a grid is what it is"


def record(kind: Any, **values: Any) -> Any:
    """A record with 0 or '' wherever nothing is said."""
    blanks: dict[str, Any] = {"str": "", "bool": False, "list[float]": []}
    blank = {f.name: blanks.get(str(f.type), 0) for f in dataclasses.fields(kind)}
    return kind(**{**blank, **values})


COSTS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=8)


@given(COSTS, st.integers(1, 3), st.integers(1, 5))
def test_costs_are_sums_of_the_rounds_before_an_evaluation(
    rounds: list[tuple[int, int, int]], every: int, clients: int
) -> None:
    records: list[Any] = []
    for t, (up, down, work) in enumerate(rounds):
        records.append(record(RoundRecord, round=t, bytes_up=up, bytes_down=down, seconds=1.0))
        records += [record(ClientRecord, round=t, client=n, flops=work, status="ok") for n in range(clients)]
    due = [t for t in range(len(rounds) + 1) if t % every == 0 or t == len(rounds)]
    records += [record(EvaluationRecord, round=t, accuracy=0.5, loss=float(t), examples=9) for t in due]
    curve = curve_of(to_table(records), clients)
    assert curve["rounds"].tolist() == curve["loss"].tolist() == curve["seconds"].tolist() == due
    for i, t in enumerate(due):
        up, down, work = (sum(row[k] for row in rounds[:t]) for k in range(3))
        assert (curve["bytes_up"][i], curve["bytes_down"][i], curve["flops"][i]) == (up, down, clients * work)
        assert curve["bytes_per_client"][i] == pytest.approx((up + down) / clients)
        assert curve["numbers_up"][i] == up / 4
    assert not np.isnan(curve["backward_flops"]).any()
