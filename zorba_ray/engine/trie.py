"""The trie of versions and the order in which it is walked. Pure bookkeeping, no tensors.

A node is a hidden state: the batch of one work after a stage, along a prefix of versions. Nodes are visited stage by
stage and, within a stage, version by version over all works, so that a version of a block is written once for all of
them. Where the states of a whole stage do not fit the memory, the walk takes as many as fit down to the losses first
and comes back for the others: nothing is computed twice, and the parents that wait are counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from zorba_ray.engine.version import Path


@dataclass(eq=False, slots=True)
class Node:
    work: int
    stage: int  # −1: the batch itself
    version: int  # number of this stage's version, equal over works
    bytes: int  # of its hidden state
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)  # after the head: paths that end here
    need: int = 0  # bytes beyond its own state that finishing everything below it takes at least


@dataclass(frozen=True, slots=True)
class Visit:
    """Compute `node` from its parent; `last`: nobody needs the parent's hidden state after this."""

    node: Node
    last: bool


@dataclass
class Forest:
    roots: list[Node]
    versions: list[list[Hashable]]  # [stage][number]


def count_edges(paths: Sequence[Path], columns: Sequence[int | None] | None = None) -> list[int]:
    """Evaluations of each stage for one batch. `columns` says which column a stage reads (None: frozen, one version);
    by default every column is a stage, between a frozen stem and a frozen head.
    """
    if columns is None:
        columns = [None, *range(len(paths[0])), None]
    prefixes: list[int] = [0] * len(paths)
    counts = []
    for column in columns:
        known: dict[Hashable, int] = {}
        for i, path in enumerate(paths):
            key = (prefixes[i], () if column is None else path[column])
            prefixes[i] = known.setdefault(key, len(known))
        counts.append(len(known))
    return counts


def build(works: Sequence[Sequence[Path]], columns: Sequence[int | None], sizes: Sequence[int], limit: int) -> Forest:
    """Tries of all works; `sizes` are bytes of a hidden state of each. A work whose least need exceeds `limit` becomes
    several tries, at worst one per path, so that a walk within `limit` exists wherever one state and its successor fit.
    """
    numbers: list[dict[Hashable, int]] = [{} for _ in columns]
    forest = Forest([], [])
    for work, paths in enumerate(works):
        pending = [list(range(len(paths)))]
        while pending:
            chosen = pending.pop(0)
            root = _grow(work, paths, chosen, columns, numbers, sizes[work])
            if root.need > limit and len(chosen) > 1:
                half = len(chosen) // 2
                pending[:0] = [chosen[:half], chosen[half:]]
            else:
                forest.roots.append(root)
    forest.versions = [list(known) for known in numbers]
    return forest


def _grow(
    work: int, paths: Sequence[Path], chosen: Sequence[int], columns: Sequence[int | None],
    numbers: list[dict[Hashable, int]], size: int,
) -> Node:
    root = Node(work, -1, 0, 0)
    nodes = [root] * len(chosen)
    order = [root]
    for stage, column in enumerate(columns):
        head = stage == len(columns) - 1
        known = numbers[stage]
        children: dict[tuple[int, int], Node] = {}
        for i, which in enumerate(chosen):
            version: Hashable = () if column is None else paths[which][column]
            number = known.setdefault(version, len(known))
            parent = nodes[i]
            node = children.get((id(parent), number))
            if node is None:
                node = Node(work, stage, number, 0 if head else size, parent)
                children[id(parent), number] = node
                parent.children.append(node)
                order.append(node)
            nodes[i] = node
    for i, which in enumerate(chosen):
        nodes[i].leaves.append(which)
    for node in reversed(order):
        waits = len(node.children) > 1  # its state stays while a child's part is finished
        for child in node.children:
            below = child.bytes + child.need - (0 if waits else node.bytes)
            node.need = max(node.need, child.bytes, below)
    return root


def schedule(forest: Forest, limit: int) -> Iterator[Visit]:
    """All visits, parents before children, with at most `limit` bytes of hidden states alive (more only where a single
    path needs more)."""
    return _walk(forest.roots, 0, limit)


def _walk(frontier: list[Node], reserved: int, limit: int) -> Iterator[Visit]:
    """Finish everything below `frontier`, whose states are alive beside `reserved` bytes of others."""
    while frontier:
        edges = _edges(frontier)
        held = sum(node.bytes for node in frontier)
        pending = {id(node): len(node.children) for node in frontier}
        start = 0
        below: list[Node] = []
        while start < len(edges):
            below, need, stop = [], 0, start
            alive = reserved + held
            while stop < len(edges):
                child = edges[stop]
                parent = child.parent
                assert parent is not None
                freed = parent.bytes if pending[id(parent)] == 1 else 0
                if below and max(alive + child.bytes, alive + child.bytes - freed + max(need, child.need)) > limit:
                    break
                alive += child.bytes - freed
                held -= freed
                need = max(need, child.need)
                pending[id(parent)] -= 1
                below.append(child)
                stop += 1
                yield Visit(child, last=pending[id(parent)] == 0)
            start = stop
            if start < len(edges) and below[0].children:
                yield from _walk(below, reserved + held, limit)
        frontier = below if below and below[0].children else []


def _edges(frontier: list[Node]) -> list[Node]:
    """Children of the frontier, version by version in order of first appearance, works within."""
    by_version: dict[int, list[Node]] = {}
    for node in frontier:
        for child in node.children:
            by_version.setdefault(child.version, []).append(child)
    return [child for children in by_version.values() for child in children]
