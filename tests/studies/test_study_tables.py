"""The table's comparisons at equal budgets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zorba_ray.report.study_tables import (
    Table,
    as_latex,
    at_equal,
    budget_of,
    examples_text,
    notes_table,
    paired_table,
)
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


def test_each_arm_is_compared_with_the_named_one_seed_by_seed() -> None:
    found = comparisons({"zo": 10.0, "longer": 10.0})
    zo, longer = found
    (result,) = zo.finals
    three = []
    for each, gains in ((zo, (0.0, 0.0, 0.0)), (longer, (0.02, 0.04, 0.03))):
        configs = [dataclasses.replace(result.run.config, seed=seed) for seed in range(3)]
        runs = [dataclasses.replace(result.run, config=config) for config in configs]
        ends = [
            {"accuracy": np.array([0.5, 0.5 + s / 10 + gain]), "rounds": np.arange(2.0), "examples": np.full(2, 400.0)}
            for s, gain in enumerate(gains)
        ]
        finals = [Result(run, "ok", "", 1.0, curve) for run, curve in zip(runs, ends, strict=True)]
        three.append(dataclasses.replace(each, finals=finals))
    study = Study(arms=[each.cell.arm for each in found], seeds=[0, 1, 2], against="zo")
    made = paired_table(study, three)
    assert made.title == "Against zo" and made.rows == [
        ["longer", "3", "+3.0 points", "+0.5 points … +5.5 points", "3 of 3"]
    ]
    study.metric = "loss"
    assert examples_text(three) == " (on 400 examples; the draw of 400 alone is worth ± 2.5 points at 50 %)"


def test_latex_has_no_letter_that_latex_reads_otherwise() -> None:
    text = as_latex(Table("A & B", "50 % of #1 †", ["Arm", "x_1"], [["{a}", "≥ 3 – 4 ‹"], ["b\\c", "—"]]))
    assert text.isascii() and text.count(r"\\") == 3 + text.count(r"b\textbackslash{}c") - 1
    for part in (r"\caption{A \& B. 50 \% of \#1 \textdagger{}}", r"\begin{tabular}{lr}", r"x\_1",
                 r"\{a\} & $\geq$ 3 -- 4 \guilsinglleft{} \\"):  # fmt: skip
        assert part in text, part
    assert as_latex(Table("Notes", "", ["Arm", "Note"], [["a", "b"]])) == ""
