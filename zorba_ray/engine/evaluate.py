"""The engine's one question: the losses of many batches along many paths of versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zorba_ray.engine import trie
from zorba_ray.engine.version import Path
from zorba_ray.engine.walk import Observer, walk
from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Kind


@dataclass(frozen=True)
class Work:
    """One client's batch and the paths on which its loss is wanted."""

    batch: Batch
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """What a work's paths gave."""

    losses: NDArray[np.float64]  # [paths], mean over the targets
    right: NDArray[np.bool_]  # [paths, targets], whether each target was guessed right

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
    """Losses of all works, in one walk of the trie within `hidden_memory` bytes of hidden states.

    The result of a work does not depend on the others, nor on the memory: to the bit.
    """
    if not works:
        return []
    for work in works:
        assert work.paths and all(len(path) == len(model.blocks) for path in work.paths), "one version per column"
    sizes = [model.state_bytes(work.batch) for work in works]
    forest = trie.build([work.paths for work in works], model.columns, sizes, hidden_memory)
    with torch.no_grad():
        answers = walk(
            model, [work.batch for work in works], forest, trie.schedule(forest, hidden_memory), kind, observer
        )
    return [_outcome(work, answer) for work, answer in zip(works, answers, strict=True)]


def _outcome(work: Work, answers: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> Outcome:
    losses = torch.stack([answers[i][0] for i in range(len(work.paths))])
    right = torch.stack([answers[i][1] for i in range(len(work.paths))])
    return Outcome(losses.double().cpu().numpy(), right.cpu().numpy())
