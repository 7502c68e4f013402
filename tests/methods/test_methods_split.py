"""What a split costs: edges of the trie, counted and as the allocation predicts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from methods.zeroth_runs import config_of
from methods.zeroth_toy import plan_of

from zorba_ray.config.errors import ConfigError
from zorba_ray.engine import count_edges
from zorba_ray.engine.memory import rounded
from zorba_ray.methods import METHODS
from zorba_ray.methods.fedspzo import FIRST, SECOND, Split
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.prepare import prepare

ROOMY = "clients.budgets.classes=[{name: all, budget: 16 MiB}]"


@pytest.mark.parametrize("at", range(1, 12))
def test_forks_cost_the_first_part_once(at: int) -> None:
    """2·P₁ (α + m (1 − α)) forwards for equal blocks, all active; α = at / L."""
    blocks, pairs, m = 12, 2, 8
    plan = plan_of("fedspzo", {"forks": m, "at": at}, directions=pairs * m)
    edges = count_edges(METHODS["fedspzo"].probes(plan, 0, np.ones(blocks, dtype=bool)))  # type: ignore[union-attr]
    share = at / blocks
    assert sum(edges[1:-1]) / blocks == pytest.approx(2 * pairs * (share + m * (1 - share)))


@given(
    row=st.lists(st.booleans(), min_size=2, max_size=7), forks=st.sampled_from([1, 2, 3, 6]), per_client=st.booleans(),
    form=st.sampled_from(["joint", "sequential"]), data=st.data(),
)  # fmt: skip
def test_predicted_edges_are_those_of_the_probes(
    row: list[bool], forks: int, per_client: bool, form: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(row) - 1))
    plan = plan_of("fedspzo", {"forks": forks, "at": at, "per_client": per_client, "form": form}, directions=6)
    active = np.array(row)
    edges = count_edges(METHODS["fedspzo"].probes(plan, 0, active))  # type: ignore[union-attr]
    assert Split(6, forks, at, per_client, form).versions(active).tolist() == edges[1:-1]


def test_parts_are_the_clients_own_halves() -> None:
    rows = np.array([[1, 0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0, 0], [0] * 7], dtype=bool)
    own = Split(4, 2, 0, True, "joint").parts(rows)
    assert own.tolist() == [
        [FIRST, 0, FIRST, SECOND, 0, SECOND, SECOND], [0, 0, 0, SECOND, 0, 0, 0], [0] * 7
    ]  # fmt: skip
    common = Split(4, 2, 2, False, "joint").parts(rows)
    assert common[0].tolist() == [FIRST, 0, SECOND, SECOND, 0, SECOND, SECOND]


@pytest.mark.parametrize("overrides", [["method=fedspzo"], ["method=fedspzo", "fedspzo.form=sequential"],
                                       ["method=zorba"], ["method=zorba", "zo.estimator=forward"]])  # fmt: skip
def test_the_allocations_compute_is_what_clients_report(overrides: list[str]) -> None:
    """FLOPs of the plan, from its rows, in proportion to the stages that probes evaluate."""
    prepared = prepare(config_of(*overrides, "zo.local_steps=2", ROOMY))
    instance, plan = prepared.allocator.instance, plan_round(prepared.config, 0)
    for row in ([1] * 6, [0, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]):
        active = np.array(row, dtype=bool)
        method = METHODS[prepared.config.method]
        edges = count_edges(method.probes(plan, 0, active), prepared.outline.columns)  # type: ignore[union-attr]
        flops = [instance.flops_before, *instance.flops, instance.flops_after]
        assert instance.compute(active) == pytest.approx(sum(n * f for n, f in zip(edges, flops, strict=True)))
        assert prepared.cost(active.tobytes()) == 2 * sum(edges)


def test_local_steps_need_a_copy_of_what_they_move() -> None:
    one, two = (prepare(config_of(f"zo.local_steps={k}", ROOMY)).allocator.instance for k in (1, 2))
    rows = np.array([[True] * 6, [False, True, False, False, True, False]])
    extra = two.vram.of(rows) - one.vram.of(rows)
    copies = np.array([rounded(4 * int(size)) for size in one.sizes])
    assert extra.tolist() == (rows @ copies).tolist()
    assert two.compute(rows).tolist() == (2 * one.compute(rows)).tolist()


def test_a_split_needs_a_second_part() -> None:
    with pytest.raises(ConfigError, match=r"fedspzo\.at is 6, but the model has 6 blocks"):
        prepare(config_of("method=fedspzo", "fedspzo.at=6", ROOMY))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method=fedspzo", "zo.shared=false"], "zo.shared"),
        (["method=fedspzo", "zo.estimator=forward"], "zo.estimator"),
        (["method=fedspzo", "zo.directions=4", "fedspzo.forks=3"], "fedspzo.forks"),
        (["method=fedspzo", "fedspzo.at=-1"], "fedspzo.at"),
        (["method=decomfl", "zo.shared=false"], "zo.shared"),
        (["method=fedkseed", "fedkseed.size=65537"], "fedkseed.size"),
        (["method=fedkseed", "fedkseed.clip=0"], "fedkseed.clip"),
        (["zo.local_steps=4096"], "zo.local_steps"),
    ],
)
def test_what_a_method_cannot_do_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(*overrides)
