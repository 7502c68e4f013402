"""The schedule alone, without tensors: every node once, parents first, within the memory, as few edges as possible."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.engine import CLEAN, Path, count_edges
from zorba_ray.engine.trie import Forest, Node, build, schedule
from zorba_ray.noise import Direction

L = 4
COLUMNS: list[int | None] = [None, *range(L), None]


def version(p: int, sign: int) -> tuple[tuple[Direction, float], ...]:
    return ((Direction(0, 0, p), sign * 1e-3),)


versions = st.sampled_from([CLEAN, version(0, 1), version(0, -1), version(1, 1)])
paths = st.lists(st.tuples(*[versions] * L), min_size=1, max_size=7)
works = st.lists(paths, min_size=1, max_size=5)


def nodes_of(forest: Forest) -> list[Node]:
    found, stack = [], list(forest.roots)
    while stack:
        node = stack.pop()
        found.append(node)
        stack += node.children
    return [node for node in found if node.stage >= 0]


def peak(visits: list[tuple[Node, bool]], limit: int) -> int:
    """Replays visits: parents must be alive, and what is freed must not be used again."""
    alive: dict[Node, int] = {}
    highest = 0
    for node, last in visits:
        assert node.parent is not None
        assert node.stage == 0 or node.parent in alive, "a parent was not there"
        if node.bytes:
            alive[node] = node.bytes
        highest = max(highest, sum(alive.values()))
        if last and node.stage > 0:
            del alive[node.parent]
    assert not alive, "something was never freed"
    return highest


@settings(max_examples=150)
@given(works, st.integers(0, 60), st.lists(st.integers(1, 4), min_size=5, max_size=5))
def test_schedule_visits_each_node_once_within_the_memory(
    work_paths: list[list[Path]], limit: int, sizes: list[int]
) -> None:
    forest = build(work_paths, COLUMNS, sizes[: len(work_paths)], limit)
    visits = [(visit.node, visit.last) for visit in schedule(forest, limit)]
    assert len(visits) == len({id(node) for node, _ in visits}) == len(nodes_of(forest))
    leaves = sorted((node.work, path) for node, _ in visits for path in node.leaves)
    assert leaves == [(n, i) for n, chosen in enumerate(work_paths) for i in range(len(chosen))]
    least = 2 * max(sizes[: len(work_paths)])  # a state and its successor
    assert peak(visits, limit) <= max(limit, least)


@settings(max_examples=100)
@given(paths)
def test_with_memory_the_cost_is_the_number_of_distinct_prefixes(chosen: list[Path]) -> None:
    forest = build([chosen], COLUMNS, [1], 10**9)
    by_stage = [sum(node.stage == stage for node in nodes_of(forest)) for stage in range(len(COLUMNS))]
    assert by_stage == count_edges(chosen) == count_edges(chosen, COLUMNS)
    assert by_stage[1:-1] == [len({path[: i + 1] for path in chosen}) for i in range(L)]


def test_each_version_is_shown_once_for_all_works() -> None:
    chosen = [tuple(version(p, sign) for _ in range(L)) for p in range(3) for sign in (1, -1)]
    forest = build([chosen] * 5, COLUMNS, [1] * 5, 10**9)
    shown = [(visit.node.stage, visit.node.version) for visit in schedule(forest, 10**9)]
    changes = 1 + sum(a != b for a, b in pairwise(shown))
    assert changes == len(set(shown)) == 1 + 6 * L + 1


def test_tight_memory_recomputes_nothing_while_a_fork_fits() -> None:
    chosen = [(CLEAN, CLEAN, CLEAN, version(p, 1)) for p in range(8)]
    forest = build([chosen], COLUMNS, [10], 20)  # the fork and one child
    visits = [(visit.node, visit.last) for visit in schedule(forest, 20)]
    assert len(visits) == sum(count_edges(chosen)) and peak(visits, 20) <= 20


def test_cost_of_split_perturbation() -> None:
    """FedSPZO: 2·P1·(α + m(1−α)) forwards; α = ¾ and m = 8 forks give 2·(3 + 8) layers instead of 2·8·4."""
    pairs = [(version(0, sign), version(0, sign), version(0, sign), version(1 + j, sign))
             for sign in (1, -1) for j in range(8)]
    assert sum(count_edges(pairs)[1:-1]) == 2 * (3 + 8)


def test_cost_of_partial_activation_and_clean_evaluation() -> None:
    half = [(CLEAN, CLEAN, version(p, sign), version(p, sign)) for p in range(4) for sign in (1, -1)]
    assert count_edges(half) == [1, 1, 1, 8, 8, 8]
    assert count_edges([(CLEAN,) * L]) == [1] * (L + 2)


def test_tied_stem_forks_at_both_ends() -> None:
    both = [(version(p, 1), CLEAN) for p in range(3)]
    assert count_edges(both, [0, 1, 0]) == [3, 3, 3]
