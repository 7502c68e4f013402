"""The same sweep by Ray Tune and by our own: the same runs, so the same rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zorba_ray.commands.study import carry_out
from zorba_ray.runs.folder import LEDGER
from zorba_ray.studies.cells import cells, first_rung, sweep_runs
from zorba_ray.studies.spec import Arm, Study, Tuning
from zorba_ray.studies.store import choice_of, outcome_of, swept
from zorba_ray.studies.tuned import rounded, scheduler
from zorba_ray.studies.watch import look

OURS = Study(
    set=["clients.count=3", "zo.directions=1", "evaluation.examples=20", "rounds=2", "task.validation_examples=40"],
    arms=[Arm(name="one")], seeds=[0], tuning=Tuning([0.1, 1.0]),
)  # fmt: skip


@pytest.mark.slow
def test_tunes_trials_are_the_runs_of_our_own_sweep(local_ray: None, tmp_path: Path) -> None:
    theirs = replace(OURS, tuning=replace(OURS.tuning, by="tune"))
    folders = {study.tuning.by: (study, tmp_path / study.tuning.by) for study in (OURS, theirs)}
    for study, folder in folders.values():
        folder.mkdir()
        carry_out(study, folder)
        (cell,) = cells(study)
        assert look(study, [cell], folder)[0].over
        assert [outcome_of(run, folder).status for run in swept(study, cell, folder)] == ["ok", "ok"]  # type: ignore[union-attr]
    (cell,) = cells(OURS)
    for run in sweep_runs(OURS, cell):
        assert len({(folder / run.folder / LEDGER).read_bytes() for _, folder in folders.values()}) == 1
    assert len({choice_of(study, cell, folder) for study, folder in folders.values()}) == 1
    assert list((tmp_path / "tune" / "tune" / "one").glob("*/result.json"))
    carry_out(*folders["tune"])  # all of it is done: no trial is begun
    assert len(list((tmp_path / "tune" / "tune" / "one").glob("*/result.json"))) == 2


def test_asha_may_end_a_run_at_its_rungs_but_not_at_its_end() -> None:
    study = replace(OURS, set=[*OURS.set, "rounds=90"], tuning=replace(OURS.tuning, by="tune", scheduler="asha"))
    (cell,) = cells(study)
    run = sweep_runs(study, cell)[0]
    assert run.config.evaluation.every == first_rung(90) == 10
    assert scheduler(study, cell)._max_t > run.config.rounds
    assert rounded(0.012345678) == 0.0123457
