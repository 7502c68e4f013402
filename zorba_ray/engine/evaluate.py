"""The engine's one question: the losses of many batches along many paths of versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zorba_ray.engine import trie
from zorba_ray.engine.version import Path
from zorba_ray.engine.walk import Answer, Observer, walk
from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Kind


@dataclass(frozen=True)
class Work:
    """One client's batch, or that of several joined, and the paths on which its loss is wanted."""

    batch: Batch
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """What a work's paths gave one of its clients."""

    losses: NDArray[np.float64]  # [paths], mean over the targets
    right: NDArray[np.bool_]  # [paths, targets], whether each target was guessed right
    visits: tuple[int, ...]  # how often the walk evaluated each stage for this work

    @property
    def correct(self) -> NDArray[np.int64]:
        """Targets guessed right, [paths]."""
        return np.asarray(self.right.sum(axis=1))

    @property
    def count(self) -> int:
        """Targets."""
        return int(self.right.shape[1])


def evaluate(
    model: BlockModel, works: Sequence[Work], kind: Kind, hidden_memory: int, observer: Observer | None = None
) -> list[Outcome]:
    """Losses of all works, in one walk of the trie within `hidden_memory` bytes of hidden states; of a joined batch, an
    outcome for each that it joins.

    The result of a work does not depend on the others, nor on the memory: to the bit.
    """
    if not works:
        return []
    for work in works:
        assert work.paths and all(len(path) == len(model.blocks) for path in work.paths), "one version per column"
    sizes = [model.state_bytes(work.batch) for work in works]
    forest = trie.build([work.paths for work in works], model.columns, sizes, hidden_memory)
    with torch.no_grad():
        made = [[0] * len(model.stages) for _ in works]
        visits = _counted(trie.schedule(forest, hidden_memory), made)
        answers = walk(model, [work.batch for work in works], forest, visits, kind, observer)
    return [
        _outcome([answer[path][part] for path in range(len(work.paths))], times)
        for work, answer, times in zip(works, answers, made, strict=True)
        for part in range(max(1, len(work.batch.members)))
    ]


def _counted(visits: Iterable[trie.Visit], made: list[list[int]]) -> Iterator[trie.Visit]:
    """The same visits, counted by work and stage: more than edges of a trie where memory cut a work into several."""
    for visit in visits:
        made[visit.node.work][visit.node.stage] += 1
        yield visit


def _outcome(answers: Sequence[Answer], visits: Sequence[int]) -> Outcome:
    losses = torch.stack([loss for loss, _ in answers])
    right = torch.stack([right for _, right in answers])
    return Outcome(losses.double().cpu().numpy(), right.cpu().numpy(), tuple(visits))
