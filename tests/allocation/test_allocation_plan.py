"""Simple rules, the plan on disk and on the screen, the frontier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from allocation.allocation_instances import random_instance, uniform_instance

from zorba_ray.allocation import NAMES, Bound, Instance, Plan, afforded, alternative, describe, make_plan, rotated
from zorba_ray.allocation.alternatives import Filler
from zorba_ray.allocation.frontier import frontier
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import AllocationConfig
from zorba_ray.noise import Domain, generator
from zorba_ray.report.allocation_tables import alternatives_table, levels_table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import load_problem


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alike", [True, False])
def test_rules_fill_budgets_as_they_say(name: str, alike: bool) -> None:
    rng = generator(1, Domain.FAULTS)
    instance = random_instance(rng, 12, 5, 3)
    if alike:
        instance = uniform_instance(12, 5, budgets=np.repeat([500.0, 700.0, 1300.0], 4))
    matrix = alternative(name, instance, 0)
    fits = instance.vram.of(matrix) <= instance.budgets
    if name == "full":
        assert matrix.all() and not fits.all()
        with pytest.raises(ConfigError, match="does not fit"):
            make_plan(instance, AllocationConfig(plan="full"), 0)
        return
    assert fits.all()
    assert make_plan(instance, AllocationConfig(plan=name), 0).matrix.tolist() == matrix.tolist()
    if name == "one_each":
        assert (matrix.sum(axis=1) == 1).all()
    elif name != "cyclic":  # nothing more would fit
        for n, row in enumerate(matrix):
            more = row | np.eye(5, dtype=bool)
            assert (instance.vram.of(more[~row]) > instance.budgets[n]).all()


def test_the_filler_agrees_with_the_memory_model() -> None:
    rng = generator(2, Domain.FAULTS)
    for _ in range(200):
        instance = random_instance(rng, 2, 6, 1)
        order = rng.permutation(6)
        row = np.zeros(6, dtype=bool)
        for block in order:
            row[block] = True
            if instance.vram.of(row) > instance.budgets[0]:
                row[block] = False
        assert Filler(instance)(float(instance.budgets[0]), order.tolist()).tolist() == row.tolist()


@pytest.mark.parametrize("order", [["convergence", "vram", "compute"], ["vram", "convergence", "compute"]])
def test_plans_survive_json(order: list[str]) -> None:
    """Also one of least VRAM, which tunes nothing: no number of rounds helps it, and JSON knows no infinity."""
    instance = random_instance(generator(3, Domain.FAULTS), 9, 4, 2, coverage=np.zeros(4, dtype=int))
    plan = make_plan(instance, AllocationConfig(order=order, epsilon=[0.0] * 3), 0)
    assert (plan.merit > 0) == (order[0] == "convergence")
    back = Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))
    assert (back.matrix == plan.matrix).all() and (back.slack == plan.slack).all()
    assert back.levels == plan.levels and back.messages == plan.messages
    assert (back.bound, back.vram, back.gain, back.cost) == (plan.bound, plan.vram, plan.gain, plan.cost)


def test_rotation_moves_rows_within_classes_and_comes_round() -> None:
    matrix = np.eye(5, dtype=bool)
    class_of = np.array([0, 1, 0, 1, 0])
    turned = rotated(matrix, class_of, 1)
    assert (turned.sum(axis=0) == 1).all()
    for k in (0, 1):
        rows = {tuple(row) for row in matrix[class_of == k].tolist()}
        assert {tuple(row) for row in turned[class_of == k].tolist()} == rows
    assert (rotated(matrix, class_of, 6) == matrix).all() and (turned != matrix).any()


def test_the_frontier_has_no_dominated_point() -> None:
    instance = random_instance(generator(4, Domain.FAULTS), 4, 4, 2)
    points = frontier(instance, AllocationConfig(), 0, (0.0, 0.2, 1.0))
    merits, vrams = zip(*sorted((plan.merit, plan.vram) for _, plan in points), strict=True)
    assert list(vrams) == sorted(vrams)
    assert merits[-1] >= max(alternative_merits(instance)) * (1 - 1e-12)


def alternative_merits(instance: object) -> list[float]:
    bound = Bound(instance)  # type: ignore[arg-type]
    plans = [describe(name, alternative(name, instance, 0), bound) for name in NAMES]  # type: ignore[arg-type]
    return [plan.merit for plan in plans if plan.feasible] or [0.0]


def test_the_command_explains_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet as pq

    from zorba_ray.commands.allocate import main

    levels = ["allocation.order=[convergence,vram]", "allocation.epsilon=[0.1,0]", "allocation.time_limit=1"]
    assert main([f"out={tmp_path}", "clients.count=4", "step.weights=equal", *levels]) == 0
    shown = capsys.readouterr().out
    for word in ("Class", "Clients m", "Limit", "Merit", "ε buys", "one_each"):
        assert word in shown
    plan = Plan.from_json(json.loads((tmp_path / "allocation.json").read_text()))
    table = pq.read_table(tmp_path / "allocation.parquet").to_pydict()
    columns = [name for name in table if name.startswith("a:")]
    assert (plan.matrix == np.array([table[name] for name in columns]).T).all()
    assert (tmp_path / "allocation.png").stat().st_size > 1000
    assert main(["clients.count=2", "allocation.coverage=2", "clients.budgets.explicit=[1 KiB, 1 KiB]"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("zorba_ray: budget 1.00 KiB (1024 B) of class")


@pytest.mark.slow
def test_the_command_draws_the_frontier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zorba_ray.commands.allocate import main

    assert main([f"out={tmp_path}", "clients.count=6", "step.weights=equal", "--frontier"]) == 0
    assert "Active share" in capsys.readouterr().out
    drawn = json.loads((tmp_path / "frontier.json").read_text())
    assert len(drawn["frontier"]) >= 2 and {p["name"] for p in drawn["alternatives"]} == set(NAMES)
    assert (tmp_path / "frontier.png").stat().st_size > 1000


@pytest.mark.parametrize(("noise", "said"), [(0.5, "which blocks share a client counts"), (500.0, "no plan changes")])
def test_advice_tells_what_the_plan_changes_in_numbers(noise: float, said: str) -> None:
    each = np.full(4, noise)
    instance = uniform_instance(12, 4, batch_variance=each, client_variance=each, horizon=0.0)
    rows = ["1100", "0011"]
    plan = make_plan(instance, AllocationConfig(plan="given", rows=rows, gradient=[1.0]), 0)
    full = make_plan(instance, AllocationConfig(plan="full"), 0)
    rate, pace, sampling = plan.messages[-3:]
    assert f"is {plan.rate:.2g}," in rate and f"about {plan.merit:.2g};" in rate
    ratio = plan.merit / full.merit
    assert "as fast as" in pace if abs(ratio - 1) < 0.1 else f"{ratio:.2g} × the progress" in pace
    assert f"{100 * plan.compute / full.compute:.0f} % of the FLOPs" in pace
    assert f"is {2 * noise / 12:.2g} ×" in sampling and said in sampling
    assert (plan.matrix == (np.array([[c == "1" for c in row] for row in rows] * 6))).all()
    assert len(make_plan(instance, AllocationConfig(plan="given", rows=rows), 0).messages) == 0  # of ones, nothing


@pytest.mark.parametrize(("rows", "said"), [(["110"], "3 digits, the model has 4"), (["1111"] * 3, "has 3 rows")])
def test_rows_that_fit_neither_model_nor_clients_are_refused(rows: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_plan(uniform_instance(2, 4), AllocationConfig(plan="given", rows=rows), 0)


def test_where_budgets_hold_everything_one_line_says_so() -> None:
    instance = uniform_instance(5, 4, client_variance=np.full(4, 10.0))  # so that the bias rules
    plan = make_plan(instance, AllocationConfig(formulation="classes"), 0)
    assert plan.matrix.all()
    assert plan.messages == ("the plan is that of full, random, cyclic, greedy, top, bottom",)


@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_tables_of_next_to_nothing_are_readable(size: float) -> None:
    instance = uniform_instance(5, 3, lr=0.0, gradient=np.full(3, size), client_variance=np.full(3, size))
    plan = make_plan(instance, AllocationConfig(formulation="classes"), 0)
    others = [describe(name, alternative(name, instance, 0), Bound(instance)) for name in NAMES]
    text = levels_table(plan, False) + alternatives_table([plan, *others])
    assert "e+" not in text.replace("e+03", "").replace("e+04", "") and "-" not in text.replace("e-", "")
    assert all(level.bound >= 0 and level.surrogate_gap < 1 for level in plan.levels)


def tight_instance(clients: int, blocks: int, room: int) -> Instance:
    """Every client has room for so many blocks."""
    instance = uniform_instance(clients, blocks)
    size = float(instance.vram.of(np.arange(blocks) < room))
    return replace(instance, budgets=np.full(clients, size))


@pytest.mark.parametrize(("clients", "room"), [(1, 1), (1, 4), (2, 1), (2, 3), (3, 2), (9, 1)])
def test_coverage_that_adapts_asks_for_no_more_than_there_is_room_for(clients: int, room: int) -> None:
    instance = tight_instance(clients, 6, room)
    lowered = afforded(instance)
    assert lowered.coverage.sum() == min(6, clients * room) and lowered.coverage.max() == 1
    plan = make_plan(lowered, AllocationConfig(), 0)
    assert plan.feasible and int((plan.coverage > 0).sum()) == min(6, clients * room)
    assert any("nobody tunes" in message for message in plan.messages) == (clients * room < 6)


def test_a_single_client_runs_by_default_and_a_coverage_that_is_given_is_kept() -> None:
    few = ["clients.count=1", "task.train_examples=48", "task.test_examples=8"]
    instance = load_problem(load_config(None, few)).instance
    assert 0 < instance.coverage.sum() < instance.blocks and make_plan(instance, AllocationConfig(), 0).feasible
    given = load_config(None, [*few, "allocation.coverage=1"])
    with pytest.raises(ConfigError, match="lower the coverage of"):
        make_plan(load_problem(given).instance, given.allocation, 0)
