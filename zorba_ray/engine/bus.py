"""What crosses the bus between host memory and a device in one client's walk, if it is alone there.

Counted from its itinerary, wherever the client really is: on a CPU nothing is copied, and it would be on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from zorba_ray.engine.itinerary import Itinerary
from zorba_ray.model.blocks import Block, parts_of
from zorba_ray.model.linear import linears, matrices_of
from zorba_ray.model.model import BlockModel, leaves_host_copy, staged, streams_matrices


def bus_bytes(model: BlockModel, walk: Itinerary, row: NDArray[np.bool_]) -> int:
    """Bytes of the blocks that are streamed to be shown, and of the matrices that are for every visit of a layer."""
    moved = sum(streamed_bytes(model, walk, row))
    if streams_matrices(model.spec.config):
        each = matrix_bytes(model)
        moved += sum(each[stage] for stage, _ in walk.visits)
    return moved


def hidden_bytes(
    model: BlockModel, walk: Itinerary, row: NDArray[np.bool_], flops: Sequence[float], pace: float
) -> int:
    """Of these, what comes while something is computed that needs none of them: of a block that is written ahead, as
    much as crosses the bus meanwhile. `flops` of each stage; `pace`: FLOPs while one byte crosses."""
    if model.buffers == 1:
        return 0
    computed = np.zeros(len(walk.shows) + 1)
    np.add.at(computed, list(walk.before), [flops[stage] for stage, _ in walk.visits])
    moved, hidden, room = streamed_bytes(model, walk, row), 0.0, (0, 0)
    shared = model.precision == torch.float32
    for i, (column, kind) in enumerate(walk.shows):
        parts = parts_of(model.blocks[column], shared)
        if moved[i] and kind != "few" and parts[0] <= room[0] and parts[1] <= room[1]:
            hidden += min(moved[i], computed[i] / pace if pace else math.inf)
        if moved[i] or kind != "clean" or not shared:  # it is written to a buffer, which has room for it from then on
            room = max(room[0], parts[0]), max(room[1], parts[1])
    return int(hidden)


def streamed_bytes(model: BlockModel, walk: Itinerary, row: NDArray[np.bool_]) -> list[int]:
    """What comes from host memory for each show of a walk."""
    config = model.spec.config
    away = [config.active == "offload" if on else leaves_host_copy(config) for on in row]
    return [shown_bytes(model, model.blocks[column], kind) if away[column] else 0 for column, kind in walk.shows]


def shown_bytes(model: BlockModel, block: Block, kind: str) -> int:
    """Of one block in host memory: as it is evaluated, or in float32 where the device moves or rounds it; of one
    that the device has in few bits, the rest."""
    rest = 4 * (block.size - block.matrix_size)
    clean = 4 if staged(model.spec.config) else model.precision.itemsize
    per_number = {"few": 0, "clean": clean, "moved": 4}[kind]
    return per_number * block.matrix_size + rest


def matrix_bytes(model: BlockModel) -> Sequence[int]:
    """Of the matrices in each stage that nobody trains."""
    trained = {id(parameter) for block in model.blocks for parameter in block.parameters}
    untrained = matrices_of(model.module) - trained
    layers = [
        sum(linear.weight.numel() for linear in linears([layer]) if id(linear.weight) in untrained)
        for layer in model.parts.layers
    ]
    return [0, *(model.precision.itemsize * numbers for numbers in layers), 0]
