"""What crosses the bus between host memory and a device in one client's walk, if it is alone there.

Counted from its itinerary, wherever the client really is: on a CPU nothing is copied, and it would be on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine.itinerary import Itinerary
from zorba_ray.model.blocks import Block
from zorba_ray.model.linear import linears, matrices_of
from zorba_ray.model.model import BlockModel, leaves_host_copy, streams_matrices


def bus_bytes(model: BlockModel, walk: Itinerary, row: NDArray[np.bool_]) -> int:
    """Bytes of the blocks that are streamed to be shown, and of the matrices that are for every visit of a layer."""
    config = model.spec.config
    away = [config.active == "offload" if on else leaves_host_copy(config) for on in row]
    moved = sum(
        count * shown_bytes(model, model.blocks[column], kind)
        for (column, kind), count in walk.shows.items()
        if away[column]
    )
    if streams_matrices(config):
        each = matrix_bytes(model)
        moved += sum(each[stage] for stage, _ in walk.visits)
    return moved


def shown_bytes(model: BlockModel, block: Block, kind: str) -> int:
    """Of one block that is in host memory: as it is evaluated, or in float32 where it is moved on the device; of one
    that the device has in few bits, the rest."""
    rest = 4 * (block.size - block.matrix_size)
    per_number = {"few": 0, "clean": model.precision.itemsize, "moved": 4}[kind]
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
