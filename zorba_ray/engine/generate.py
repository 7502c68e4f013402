"""Greedy generation by the walk's clean version: whatever lies offloaded or in few bits is shown as in any evaluation.

A token costs a forward of all prompts that still go on: nothing is kept between tokens, which suits short answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from zorba_ray.engine.materialise import Showing
from zorba_ray.engine.version import CLEAN
from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Kind


def generate(
    model: BlockModel, prompts: Sequence[Sequence[int]], most: int, end: int | None, pad: int, kind: Kind
) -> list[list[int]]:
    """What follows each prompt: at most so many tokens, and none from the one that ends texts on."""
    made: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    for _ in range(most):
        if not going:
            break
        tokens = next_tokens(model, open_batch([[*prompts[i], *made[i]] for i in going], pad), kind)
        for i, token in zip(going, tokens, strict=True):
            if token != end:
                made[i].append(token)
        going = [i for i, token in zip(going, tokens, strict=True) if token != end]
    return made


def next_tokens(model: BlockModel, batch: Batch, kind: Kind) -> list[int]:
    """The likeliest token at each wanted position."""
    batch, showing = batch.to(model.device), Showing(model, kind)
    with torch.no_grad():
        try:
            for number, (stage, coming) in enumerate(pairwise(model.stages)):
                if stage.block is not None:
                    showing.show(stage.block, CLEAN)
                if coming.block is not None:
                    showing.ahead(coming.block, CLEAN)
                if number == 0:
                    hidden, context = model.stem(batch)
                else:
                    hidden = model.layer(number - 1, hidden, context)
            if model.stages[-1].block is not None:
                showing.show(model.stages[-1].block, CLEAN)
            return [int(token) for token in model.head.likeliest(hidden, batch)]
        finally:
            showing.base()


def open_batch(sequences: Sequence[Sequence[int]], pad: int) -> Batch:
    """Padded on the right; what comes after each is wanted."""
    lengths = np.array([len(ids) for ids in sequences])
    ids = np.full((len(sequences), int(lengths.max())), pad, np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    rows, targets = np.arange(len(sequences)), np.zeros(len(sequences), np.int64)
    return Batch(*(torch.from_numpy(each) for each in (ids, mask, rows, lengths - 1, targets)))
