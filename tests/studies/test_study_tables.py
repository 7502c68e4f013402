"""The table's comparisons at equal budgets."""

from __future__ import annotations

import numpy as np
import pytest

from zorba_ray.report.study_tables import at_equal, budget_of, notes_table
from zorba_ray.studies.cells import cells, final_runs
from zorba_ray.studies.choose import Choice
from zorba_ray.studies.collect import Comparison, Result
from zorba_ray.studies.spec import Arm, Study

PRESETS = {"zo": "methods/decomfl", "longer": "methods/decomfl", "fo": "methods/fedavg"}


def comparisons(ends: dict[str, float]) -> list[Comparison]:
    """Arms whose accuracy rises evenly from 0 to 1 until they have spent so many FLOPs."""
    arms = [Arm(name=name, presets=[PRESETS[name]], lifted=True, rates=[0.1, 0.2, 0.3]) for name in ends]
    study = Study(arms=arms, seeds=[0], set=["task.validation_examples=10"])
    study.tuning.factors = [1.0, 2.0, 3.0]
    found = []
    for cell in cells(study):
        (run,) = final_runs(study, cell, 0.1)
        curve = {"rounds": np.arange(3.0), "accuracy": np.linspace(0, 1, 3)}
        curve["flops"] = np.linspace(0, ends[cell.arm.name], 3)
        curve["numbers_up"] = np.linspace(0, 100 * ends[cell.arm.name], 3)
        found.append(Comparison(cell, Choice(0.1, ""), [], [Result(run, "ok", "", 1.0, curve)], []))
    return found


def test_few_flops_of_an_arm_with_gradients_limit_nobody() -> None:
    study, found = Study(), comparisons({"zo": 10.0, "longer": 20.0, "fo": 1.0})
    assert budget_of(found, "", "flops") == 10
    assert [at_equal(study, each, found, "flops") for each in found] == ["100.0 %", "50.0 %", "100.0 % †"]
    (note,) = [row[-1] for row in notes_table(study, found).rows if "†" in row[-1]]
    assert "fewer forward FLOPs" in note


@pytest.mark.parametrize("ends", [{"fo": 4.0}, {"zo": 4.0}])
def test_arms_of_one_kind_are_compared_at_the_least_of_them(ends: dict[str, float]) -> None:
    study, found = Study(), comparisons(ends)
    assert budget_of(found, "", "flops") == 4
    assert at_equal(study, found[0], found, "flops") == "100.0 %"


def test_uploads_are_compared_at_what_every_arm_sent() -> None:
    study, found = Study(), comparisons({"zo": 10.0, "fo": 40.0})
    assert [at_equal(study, each, found, "numbers_up") for each in found] == ["100.0 %", "25.0 %"]
