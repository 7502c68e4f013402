"""The program: exact where it says so, proven everywhere, never worse than a simple rule."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from allocation.allocation_instances import random_instance, uniform_instance
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zorba_ray.allocation import NAMES, Bound, Instance, alternative, describe, improve, make_plan, make_plans
from zorba_ray.allocation.lexicographic import Levels, objective_of
from zorba_ray.allocation.solver import Solved
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import AllocationConfig
from zorba_ray.noise import Domain, generator

ORDERS = list(itertools.permutations(["convergence", "vram", "compute"]))
SHAPES = [(1, 5), (2, 3), (3, 3), (4, 4), (8, 2), (2, 8), (5, 3), (3, 5), (16, 1), (1, 16)]
EPSILON = [0.05, 0.1, 0.0]


def brute_force(instance: Instance, config: AllocationConfig) -> list[float]:
    """Best value of each level over all matrices, one by one; NaN where there is none."""
    bound, n, blocks = Bound(instance), instance.clients, instance.blocks
    rows = [np.array(bits, dtype=bool) for bits in itertools.product([False, True], repeat=blocks)]
    fits = [[row for row in rows if instance.vram.of(row) <= budget] for budget in instance.budgets]
    plans = (np.stack(choice) for choice in itertools.product(*fits))
    kept = [plan for plan in plans if (plan.sum(axis=0) >= instance.coverage).all()]
    table = {
        "vram": np.array([instance.vram.of(plan).sum() for plan in kept]),
        "compute": np.array([instance.compute(plan).sum() for plan in kept]),
    }
    worths = [bound.of(plan) for plan in kept]
    merit = np.array([worth.merit for worth in worths])
    assert n * blocks <= 16
    best, left = [], np.ones(len(kept), dtype=bool)
    for level, objective in enumerate(config.order):
        if not left.any():
            best.append(np.nan)
        elif objective == "convergence":  # what slack is left counts at the best rate of the best plan
            first = int(np.argmax(np.where(left, merit, -1.0)))
            best.append(1 / merit[first] if merit[first] else np.inf)
            if merit[first]:
                progress = np.array([worth.progress(worths[first].rate) for worth in worths])
                left = left & (progress >= merit[first] / (1 + config.epsilon[level]) * (1 - 1e-9))
            else:  # nobody gains: on what is lost
                lost = bound.most - np.array([worth.gain.sum() for worth in worths])
                left = left & (lost <= lost[left].min() * (1 + config.epsilon[level]) * (1 + 1e-9))
        else:
            values = table[objective]
            best.append(float(values[left].min()))
            left = left & (values <= best[-1] * (1 + config.epsilon[level]) + 1e-9 * abs(best[-1]))
    return best


def small(seed: int, shape: tuple[int, int], **changes: object) -> Instance:
    rng = generator(seed, Domain.FAULTS)
    n, blocks = shape
    return random_instance(
        rng, n, blocks, int(rng.integers(1, min(n, 3) + 1)), shared=bool(rng.random() < 0.7),
        rotate=bool(rng.random() < 0.3), participants=int(rng.choice([0, max(1, n // 2)])),
        coverage=np.full(blocks, int(rng.integers(0, 2))), **changes,
    )  # fmt: skip


def plan_values(instance: Instance, config: AllocationConfig) -> list[float]:
    plan = make_plan(instance, config, 0)
    assert plan.feasible
    assert [level.bound <= level.value * (1 + 1e-9) for level in plan.levels] == [True] * len(plan.levels)
    return [level.value for level in plan.levels]


@pytest.mark.parametrize("formulation", ["auto", "direct", "classes"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(order))
def test_equal_to_brute_force(order: tuple[str, ...], formulation: str) -> None:
    compared = 0
    for seed, shape in enumerate([(2, 3), (3, 3), (2, 4), (5, 2), (1, 5), (6, 1)]):
        instance = small(17 * ORDERS.index(order) + seed, shape)
        config = AllocationConfig(order=list(order), epsilon=EPSILON, formulation=formulation, mip_gap=0.0)
        expected = brute_force(instance, config)
        if np.isnan(expected[0]):
            with pytest.raises(ConfigError):
                make_plan(instance, config, 0)
        else:
            assert plan_values(instance, config) == pytest.approx(expected, rel=1e-7)
            compared += 1
    assert compared >= 2


@pytest.mark.slow
@pytest.mark.parametrize("formulation", ["auto", "direct", "classes"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_to_brute_force_up_to_sixteen(shape: tuple[int, int], formulation: str) -> None:
    for i, order in enumerate(ORDERS):
        instance = small(100 + i, shape)
        config = AllocationConfig(order=list(order), epsilon=EPSILON, formulation=formulation, mip_gap=0.0)
        expected = brute_force(instance, config)
        if not np.isnan(expected[0]):
            assert plan_values(instance, config) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("order", ORDERS[:3], ids=lambda order: "-".join(order))
def test_unequal_weights_equal_brute_force(order: tuple[str, ...]) -> None:
    for seed in range(3):
        instance = replace(small(40 + seed, (3, 3)), weights=np.array([1.0, 2.0, 5.0]), coverage=np.ones(3, dtype=int))
        config = AllocationConfig(order=list(order), epsilon=EPSILON)
        expected = brute_force(instance, config)
        if not np.isnan(expected[0]):
            assert plan_values(instance, config) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=8)
@given(
    st.integers(0, 10**6), st.integers(2, 14), st.integers(2, 6), st.integers(0, 3), st.sampled_from(["total", "worst"])
)
def test_budgets_and_coverage_hold(seed: int, n: int, blocks: int, coverage: int, vram: str) -> None:
    rng = generator(seed, Domain.FAULTS)
    instance = random_instance(
        rng, n, blocks, int(rng.integers(1, 5)), coverage=np.minimum(rng.integers(0, coverage + 1, blocks), n),
        weights=rng.uniform(1, 3, n) if rng.random() < 0.5 else np.ones(n), rotate=bool(rng.random() < 0.3),
        shared=bool(rng.random() < 0.5), participants=int(rng.choice([0, max(1, n // 2)])),
    )  # fmt: skip
    order = list(rng.permutation(["convergence", "vram", "compute"]))
    config = AllocationConfig(vram=vram, order=order, time_limit=0.5)
    try:
        plan = make_plan(instance, config, seed)
    except ConfigError as error:
        assert "\n" not in str(error) and ("raise" in str(error) or "lower" in str(error))
        assert all(instance.infeasible(alternative(name, instance, seed)) for name in NAMES), "a rule's plan does"
        return
    assert (instance.vram.of(plan.matrix) <= instance.budgets).all() and (plan.slack >= 0).all()
    assert (plan.coverage >= instance.coverage).all()
    assert plan.merit == pytest.approx(Bound(instance).of(plan.matrix).merit, rel=1e-12)
    assert plan.limit >= plan.merit * (1 - 1e-9)
    hopeless = config.order[0] == "convergence" and not plan.merit
    assert any("no plan brings the loss down" in message for message in plan.messages) == hopeless
    for level in plan.levels:
        assert level.bound <= level.value * (1 + 1e-9) and level.final <= level.limit
    if config.order[0] == "convergence":
        for name in NAMES:
            other = describe(name, alternative(name, instance, seed), Bound(instance))
            if other.feasible:
                assert other.merit * plan.levels[0].value <= 1 + 1e-9, name
                assert other.merit <= plan.limit * (1 + 1e-9), name


@pytest.mark.parametrize("objective", ["convergence", "vram", "compute"])
def test_no_simple_rule_is_better_even_where_the_search_finds_nothing(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins from few plans, and its programs may end by their time."""
    monkeypatch.setattr(improve, "effort", lambda *size: improve.Effort(1, 0, 0, False, 0))
    monkeypatch.setattr(Levels, "prove", lambda *level: Solved("limit", None, np.inf, 0.0, np.inf, 0.0))
    for seed in range(8):
        instance = random_instance(generator(seed, Domain.FAULTS), 9, 5, 3, coverage=np.zeros(5, dtype=int))
        plan = make_plan(instance, AllocationConfig(order=[objective], epsilon=[0.0]), 0)
        for name in NAMES:
            matrix = alternative(name, instance, 0)
            if not instance.infeasible(matrix):
                value = objective_of(Bound(instance), matrix, objective, False)
                assert plan.levels[0].final <= value * (1 + 1e-9), (seed, name)


@pytest.mark.parametrize("shape", [(2, 3), (6, 4)])
def test_plans_that_differ_in_epsilon_alone_are_those_of_one_by_one(shape: tuple[int, int]) -> None:
    instance = random_instance(generator(5, Domain.FAULTS), *shape, 2, coverage=np.zeros(shape[1], dtype=int))
    configs = [AllocationConfig(epsilon=[epsilon, epsilon, 0.0]) for epsilon in (0.3, 0.0)]
    together = make_plans(instance, configs, 0)
    for config, plan in zip(configs, together, strict=True):
        alone = make_plan(instance, config, 0)
        assert (plan.matrix == alone.matrix).all() and plan.limit == alone.limit
        assert [replace(a, seconds=0.0) for a in plan.levels] == [replace(a, seconds=0.0) for a in alone.levels]


@settings(max_examples=6)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(5, 9), st.booleans(), st.booleans())
def test_room_for_everything_is_never_refused(seed: int, n: int, blocks: int, alike: bool, by_class: bool) -> None:
    """Also where clients are fewer than blocks, and have to divide themselves among many."""
    rng = generator(seed, Domain.FAULTS)
    instance = random_instance(
        rng, n, blocks, 1, coverage=np.ones(blocks, dtype=int), shared=True, sizes=np.full(blocks, 1e6), directions=1,
        weights=np.ones(n) if alike else rng.uniform(1, 3, n),
    )  # fmt: skip
    instance = replace(instance, budgets=np.full(n, instance.vram.of(np.ones(blocks, dtype=bool))))
    config = AllocationConfig(formulation="classes" if by_class else "auto", time_limit=0.5)
    assert make_plan(instance, config, seed).feasible


@settings(max_examples=12)
@given(st.integers(0, 10**6))
def test_first_level_never_worsens_when_a_budget_grows(seed: int) -> None:
    rng = generator(seed, Domain.FAULTS)
    instance = small(seed, (3, 3), class_of=np.arange(3), class_names=("a", "b", "c"))
    vram = instance.vram
    budgets = vram.alone().max() + rng.uniform(0, 1, 3) * (vram.of(np.ones(3, dtype=bool)) - vram.alone().max())
    grown = budgets.copy()
    grown[rng.integers(3)] *= 1 + rng.uniform(0, 0.5)
    for order in (["convergence"], ["compute"], ["vram"]):
        config = AllocationConfig(order=order, epsilon=[0.0])
        try:
            before = plan_values(replace(instance, budgets=budgets), config)[0]
        except ConfigError:
            continue
        assert plan_values(replace(instance, budgets=grown), config)[0] <= before * (1 + 1e-12)


@pytest.mark.parametrize("rotate", [False, True])
def test_the_dealt_out_plan_has_the_class_solutions_bound(rotate: bool) -> None:
    """More clients than groups: what was searched and what 3000 clients are dealt are one in the exact bound."""
    rng = generator(3, Domain.FAULTS)
    instance = random_instance(rng, 2000, 4, 3, rotate=rotate, coverage=np.full(4, 3), shared=True)
    levels = Levels(instance, AllocationConfig(), 0)
    plan = levels.solve(levels.find())
    assert levels.state is not None
    assert len(levels.groups.size) < instance.clients / 10
    bound = levels.bound
    cost = bound.most - bound.of(plan.matrix).progress(bound.rate) / bound.rate
    assert levels.state.objective("convergence") == pytest.approx(cost, rel=1e-12)
    assert plan.vram == pytest.approx(levels.state.objective("vram"), rel=1e-12)


def test_deterministic_for_a_seed() -> None:
    instance = random_instance(generator(8, Domain.FAULTS), 8, 4, 3, coverage=np.full(4, 2))
    one, two = (make_plan(instance, AllocationConfig(), 4) for _ in range(2))
    assert (one.matrix == two.matrix).all()
    assert [level.value for level in one.levels] == [level.value for level in two.levels]


def test_states_moves_equal_a_fresh_evaluation() -> None:
    """The search's running sums, after many moves, against the bound computed from the rows."""
    from zorba_ray.allocation.state import State, make_groups

    rng = generator(9, Domain.FAULTS)
    for rotate, weights in itertools.product([False, True], [np.ones(12), rng.uniform(1, 4, 12)]):
        instance = random_instance(rng, 12, 5, 2, rotate=rotate, weights=weights, participants=5)
        bound = Bound(instance, rate=float(rng.uniform(0.001, 0.1)))
        groups = make_groups(bound, 12)
        state = State(bound, groups, rng.random((12, 5)) < 0.5, worst=False)
        for _ in range(60):
            g, block = int(rng.integers(12)), int(rng.integers(5))
            expected = state.objective("convergence") + state.flips(g)[block]
            state.apply(g, block)
            assert state.objective("convergence") == pytest.approx(expected, rel=1e-9)
            progress = bound.of(groups.deal(state.rows)).progress(bound.rate)
            assert expected == pytest.approx(bound.most - progress / bound.rate, rel=1e-9)


def test_where_a_simple_rule_is_best_the_plan_says_so() -> None:
    """Private noise hardly depends on activation, so with large client variance everyone tunes everything."""
    instance = uniform_instance(6, 4, shared=False, client_variance=np.full(4, 100.0), lr=1e-4)
    plan = make_plan(instance, AllocationConfig(order=["convergence"], epsilon=[0.0]), 0)
    assert plan.matrix.all()
    assert any("full" in message for message in plan.messages)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: replace(i, budgets=i.budgets * 0.1), ("does not hold the model", "raise it to")),
        (lambda i: replace(i, coverage=np.array([1, 9, 1])), ("block 1", "lower its coverage to 4")),
        (lambda i: tight(i, 1, 4), ("client × block pairs", "lower the coverage")),
        (lambda i: tight(i, 3, 1), ("block 2 needs", "raise the budget")),
    ],
)
def test_infeasible_programs_name_the_reason_and_the_least_change(change: object, words: tuple[str, ...]) -> None:
    instance = change(uniform_instance(4, 3))  # type: ignore[operator]
    with pytest.raises(ConfigError) as caught:
        make_plan(instance, AllocationConfig(), 0)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def tight(instance: Instance, factor: int, coverage: int) -> Instance:
    """Room for one block of the usual size; the last block `factor` times as large."""
    sizes = instance.sizes * np.array([1, 1, factor])
    vram = replace(instance.vram, active=4 * sizes, scratch=4 * sizes, transit=4 * sizes)
    room = float(vram.fixed + vram.awake + vram.transit.max() + 4 * instance.sizes[0])
    return replace(instance, vram=vram, budgets=np.full(instance.clients, room), coverage=np.full(3, coverage))


def test_the_least_change_is_enough_and_least() -> None:
    """Following the message makes the instance feasible; a byte less does not."""
    instance = tight(uniform_instance(2, 3), 1, 1)  # two clients with room for one block each, three blocks
    with pytest.raises(ConfigError, match="the budgets do not hold 3 client × block pairs") as caught:
        make_plan(instance, AllocationConfig(), 0)
    extra = int(str(caught.value).split("(")[-1].split(" B)")[0])
    grown = instance.budgets + np.array([extra, 0.0])
    classes = {"class_of": np.arange(2), "class_names": ("a", "b")}
    assert make_plan(replace(instance, budgets=grown, **classes), AllocationConfig(), 0).feasible
    with pytest.raises(ConfigError):
        make_plan(replace(instance, budgets=grown - np.array([2.0, 0.0]), **classes), AllocationConfig(), 0)


def test_absolute_epsilon_grants_units() -> None:
    instance = random_instance(generator(12, Domain.FAULTS), 4, 3, 2)
    config = AllocationConfig(order=["vram", "convergence"], epsilon=[1000.0, 0.0], epsilon_kind="absolute")
    plan = make_plan(instance, config, 0)
    assert plan.levels[0].limit == pytest.approx(plan.levels[0].value + 1000.0)
    assert plan.vram <= plan.levels[0].value + 1000.0 + 1e-3


def matrix_of(rows: list[str]) -> NDArray[np.bool_]:
    return np.array([[c == "1" for c in row] for row in rows])


def test_compute_counts_the_clean_prefix_once() -> None:
    instance = uniform_instance(3, 3, flops=np.array([1.0, 10.0, 100.0]), passes=4, flops_before=0.5, flops_after=0.25)
    flops = instance.compute(matrix_of(["100", "001", "000"]))
    assert flops == pytest.approx([0.5 + 4 * 111 + 4 * 0.25, 0.5 + 11 + 4 * 100 + 4 * 0.25, 0.0])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", ["gradient", "batch_variance", "client_variance", "smoothness"])
def test_what_overflowed_never_reaches_the_solver(name: str, wrong: float) -> None:
    instance = uniform_instance(4, 3)
    values = np.array([1.0, wrong, 1.0])
    with pytest.raises(ConfigError, match=rf"^allocation\.{name} of block 1 is .*overflow") as caught:
        make_plan(replace(instance, **{name: values}), AllocationConfig(), 0)
    assert "\n" not in str(caught.value)
