"""From examples to a mini-batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zorba_ray.model.batch import Batch
from zorba_ray.noise import Domain, generator
from zorba_ray.tasks.examples import Examples, Task


def sample_batch(
    shard: NDArray[np.int64], size: int, seed: int, client: int, round: int, step: int = 0
) -> NDArray[np.int64]:
    """The examples of a client's mini-batch: uniform without replacement, anew each round; a smaller shard whole.

    A pure function of its arguments, so any process can draw any client's batch of any round.
    """
    if size >= len(shard):
        return shard.copy()
    return shard[generator(seed, Domain.BATCH, client, round, step).choice(len(shard), size=size, replace=False)]


def epoch_batches(
    shard: NDArray[np.int64], size: int, seed: int, client: int, round: int, epoch: int
) -> list[NDArray[np.int64]]:
    """One pass over a client's examples in an order drawn anew; the last mini-batch has what is left."""
    order = shard[generator(seed, Domain.BATCH, client, round, 0, epoch).permutation(len(shard))]
    return [order[start : start + size] for start in range(0, len(order), size)]


def make_batch(examples: Examples, index: NDArray[np.int64], task: Task) -> Batch:
    """The indexed examples, padded on the right to the longest of them, with the answers that the task wants."""
    lengths = examples.offsets[index + 1] - examples.offsets[index]
    ids = np.full((len(index), int(lengths.max())), task.pad_id, np.int64)
    for row, i in enumerate(index):
        ids[row, : lengths[row]] = examples[int(i)]
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    if task.kind == "language":
        rows, cols = np.nonzero(mask[:, 1:])  # position t answers for token t + 1
        targets = ids[rows, cols + 1]
    elif task.kind == "generation":
        assert examples.answers is not None
        counts = examples.answers[index]
        ends = np.cumsum(counts)
        rows = np.repeat(np.arange(len(index)), counts)
        cols = np.arange(ends[-1]) - np.repeat(ends - lengths + 1, counts)  # the last of an answer predicts nothing
        targets = ids[rows, cols + 1]
    else:
        rows, cols = np.arange(len(index)), lengths - 1 - task.tail
        targets = examples.labels[index]
    return Batch(*(tensor(array) for array in (ids, mask, rows, cols, targets)))


def tensor(array: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))
