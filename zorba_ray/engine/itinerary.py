"""The walk of one client by itself, before it is done: what is alive when, what is shown, what comes over the bus."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from zorba_ray.engine import trie
from zorba_ray.engine.version import CLEAN, Frozen, Path


@dataclass(frozen=True)
class Itinerary:
    """`visits`: stage, and hidden states alive before, in order. `shows`: the blocks (their columns) that have to be
    shown anew, each in a kind of version, in order; `before`: how many of them each visit comes after."""

    visits: tuple[tuple[int, int], ...]
    shows: tuple[tuple[int, str], ...]
    before: tuple[int, ...]


def live_states(paths: Sequence[Path], columns: Sequence[int | None]) -> int:
    """Hidden states that a walk along the paths must hold at once to compute every shared prefix once."""
    (root,) = trie.build([paths], columns, [1], len(columns) * len(paths)).roots
    return root.need


def itinerary(paths: Sequence[Path], columns: Sequence[int | None], states: int) -> Itinerary:
    """The walk along the paths that holds at most so many hidden states."""
    forest = trie.build([paths], columns, [1], states)
    visits, shows, before = [], list[tuple[int, str]](), []
    alive, shown = 0, None
    for visit in trie.schedule(forest, states):
        node, column = visit.node, columns[visit.node.stage]
        if column is not None:
            version: Hashable = forest.versions[node.stage][node.version]
            if shown != (column, version):
                shown = (column, version)
                shows.append((column, kind_of_version(version)))
        visits.append((node.stage, alive))
        before.append(len(shows))
        alive += node.bytes - (visit.last and node.stage > 0)
    return Itinerary(tuple(visits), tuple(shows), tuple(before))


def kind_of_version(version: Hashable) -> str:
    return "few" if isinstance(version, Frozen) else "clean" if version == CLEAN else "moved"
