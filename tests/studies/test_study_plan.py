"""A study as a list of runs: how many, with which seeds and rates, and that settings go over one another in order."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.shipped import CONFIGS
from zorba_ray.config.units import parse_bytes
from zorba_ray.runs.config import load_config
from zorba_ray.studies.cells import cells, final_runs, size_of, sweep_runs, write
from zorba_ray.studies.spec import Arm, Scale, Study, Tuning, load_study

DEFAULT = load_config(None)
BASE = ["task.validation_examples=50", "rounds=20"]
NAMES = st.lists(st.integers(0, 20).map(lambda i: f"arm {i}"), min_size=1, max_size=3, unique=True)
SEEDS = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)
FACTORS = st.lists(st.integers(1, 50).map(lambda i: i / 10), min_size=1, max_size=4, unique=True)


@settings(max_examples=30)
@given(NAMES, SEEDS, FACTORS, st.lists(st.integers(2, 9).map(str), max_size=2, unique=True))
def test_every_arm_gets_the_same_budget(
    names: list[str], seeds: list[int], factors: list[float], grid: list[str]
) -> None:
    study = Study(set=BASE, arms=[Arm(name=name) for name in names], seeds=seeds, tuning=Tuning(factors, rounds=7))
    study.scale = Scale("clients.count", grid) if grid else Scale()
    every = cells(study)
    count = len(names) * max(1, len(grid))
    tried = len(factors) if len(factors) > 1 else 0
    size = size_of(study, every)
    assert (len(every), size.sweeps, size.finals) == (count, count * tried, count * len(seeds))
    assert size.rounds == count * (7 * tried + 20 * len(seeds))
    runs = [run for cell in every for run in (*sweep_runs(study, cell), *final_runs(study, cell, 1e-3))]
    assert len({run.folder for run in runs}) == len(runs)
    assert all(run.rate == run.config.step.lr for run in runs)


def test_sweeps_never_see_the_test_data_nor_a_final_seed() -> None:
    study = Study(set=BASE, arms=[Arm(name="one")], seeds=[3, 4], tuning=Tuning([1.0, 2.0], seed=9))
    (cell,) = cells(study)
    sweep, finals = sweep_runs(study, cell), final_runs(study, cell, 1.0)
    assert {(run.seed, run.config.evaluation.data) for run in sweep} == {(9, "validation")}
    assert {(run.seed, run.config.evaluation.data) for run in finals} == {(3, "test"), (4, "test")}
    tuned, final = sweep_runs(study, cell)[0].config, final_runs(study, cell, 1.0)[0].config
    assert (tuned.task, tuned.clients) == (final.task, final.clients), "both train on the same data"


def test_later_settings_win(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rounds: 1\nzo: {mu: 1.0}\nclients: {count: 3}\nstep: {lr: 1.0}\n")
    (tmp_path / "preset.yaml").write_text("zo: {mu: 3.0, directions: 3}\nstep: {lr: 3.0}\n")
    arm = Arm(name="one", presets=[str(tmp_path / "preset.yaml")], set=["zo.directions=4", "clients.count=4"])
    study = Study(
        base=str(tmp_path / "base.yaml"), set=[*BASE, "zo.mu=2", "zo.directions=2"], arms=[arm],
        scale=Scale("clients.count", ["5"]), override=["step.lr=6"],
    )  # fmt: skip
    (cell,) = cells(study)
    config = cell.config
    assert (config.rounds, config.zo.mu, config.zo.directions) == (20, 3.0, 4)
    assert (config.clients.count, config.step.lr) == (5, 6.0)


def test_lifted_budgets_replace_whatever_the_base_says() -> None:
    given_ = ["clients.count=2", "clients.budgets.explicit=[1 MiB, 2 MiB]"]
    (cell,) = cells(Study(set=[*BASE, *given_], arms=[Arm(name="one", lifted=True)], lifted="3 GiB"))
    (budget,) = cell.config.clients.budgets.classes
    assert parse_bytes(budget.budget) == parse_bytes("3 GiB")
    assert not cell.config.clients.budgets.explicit
    assert load_config(None, []).clients.budgets != cell.config.clients.budgets


def test_the_grid_is_around_the_arms_centre_or_is_the_arms_own() -> None:
    arms = [Arm(name="one"), Arm(name="two", lr=1.0), Arm(name="three", rates=[5.0, 4.0, 3.0])]
    one, two, three = cells(Study(set=[*BASE, "step.lr=0.1"], arms=arms, tuning=Tuning([10.0, 0.1, 1.0])))
    assert one.rates == pytest.approx((0.01, 0.1, 1.0))
    assert two.rates == pytest.approx((0.1, 1.0, 10.0))
    assert three.rates == (3.0, 4.0, 5.0)
    with pytest.raises(ConfigError, match="centre"):
        cells(Study(set=[*BASE, "step.lr=0"], arms=[Arm(name="one")]))


@given(st.floats(1e-9, 1e9))
def test_writing_a_number_changes_only_that_number(value: float) -> None:
    before = copy.deepcopy(DEFAULT)
    changed = write(DEFAULT, "step.lr", value)
    assert changed.step.lr == value
    assert dataclasses.replace(changed, step=DEFAULT.step) == DEFAULT == before


@pytest.mark.parametrize("path", sorted((CONFIGS / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_studies_that_come_with_us_can_be_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZORBA_RAY_SHARED", "/anywhere")
    study = load_study(path)
    every = cells(study)
    assert study.name == path.stem
    for cell in every:
        lifted = cell.config.allocation.plan in ("full", "given")
        assert cell.arm.lifted == lifted, "what tunes all blocks has budgets for it"
        assert cell.config.fleet.devices, "there is a clock"
    (count,) = {len(cell.rates) for cell in every}
    assert count >= 3
