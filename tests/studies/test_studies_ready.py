"""Every study that comes with us, each arm really begun: one round of few clients, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from zorba_ray.config.shipped import CONFIGS
from zorba_ray.runs.simulate import simulate
from zorba_ray.studies.cells import cells, final_runs
from zorba_ray.studies.spec import load_study

HERE = [path for path in sorted((CONFIGS / "studies").glob("*.yaml")) if not load_study(path).base]
FEW = [pytest.mark.slow]  # the first arm of each; the others are for a release, like whatever CI's time does not hold
ARMS = [
    pytest.param(path, arm.name, id=f"{path.stem}: {arm.name}", marks=[pytest.mark.release, *FEW] if i else FEW)
    for path in HERE for i, arm in enumerate(load_study(path).arms)
]  # fmt: skip
SMALL = [
    "rounds=1", "evaluation.every=1", "evaluation.examples=8", "task.train_examples=96", "task.test_examples=16",
    "task.validation_examples=16", "clients.batch=2", "seeds=[0]", "tuning.factors=[1]",
]  # fmt: skip


@pytest.mark.parametrize(("path", "arm"), ARMS)
def test_every_arm_of_a_study_runs(path: Path, arm: str, tmp_path: Path) -> None:
    study = load_study(path, SMALL)
    study.scale.values, study.only = study.scale.values[:1], [arm]
    (cell,) = cells(study)
    (run,) = final_runs(study, cell, cell.rates[0])
    assert simulate(run.config, tmp_path / "run").rounds_done == 1
