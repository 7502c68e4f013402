"""What training with gradients costs beside its forward: FLOPs of the backward.

Measured on forwards and backwards of one short example at three lengths, real ones of a real model. They grow with the
examples and are polynomials of degree 2 in the tokens, so three lengths tell them for every batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zorba_ray.engine.cost import at_length, blank_batch, counted, counted_once
from zorba_ray.engine.plain import plain_loss
from zorba_ray.model.blocks import Block
from zorba_ray.model.hollow import at_hand
from zorba_ray.model.model import BlockModel

Row = NDArray[np.bool_]


@contextmanager
def gradients(model: BlockModel, row: Row) -> Iterator[list[nn.Parameter]]:
    """The parameters of the active blocks ask for gradients; afterwards they are as they were. Of a model that is
    evaluated in few bits, all blocks show theirs meanwhile (`show_rounded` again where the vectors move)."""
    show_rounded(model, model.blocks)
    parameters = [p for block in model.blocks if row[block.index] for p in block.parameters]
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield parameters
    finally:
        for parameter, asked in zip(parameters, before, strict=True):
            parameter.requires_grad_(asked)
            if not asked:
                parameter.grad = None
        if model.precision != torch.float32:
            for block in model.blocks:
                block.point(block.base)


def show_rounded(model: BlockModel, blocks: Sequence[Block]) -> None:
    """Let blocks show their numbers as they are evaluated: copies in few bits, where that is the model's precision."""
    if model.precision == torch.float32:
        return
    for block in blocks:
        cut, device = block.matrix_size, model.device
        block.point(block.views(block.vector[:cut].to(device, model.precision), block.vector[cut:].to(device)))


def backward_flops(model: BlockModel, row: Row, examples: int, tokens: int, checkpointing: bool = False) -> float:
    """FLOPs of one backward with these blocks active. Down to the first active block it passes through frozen ones too;
    fused attention computes its scores again, which counts, as does what checkpointing computes again."""
    if not row.any():
        return 0.0
    key = row.tobytes() + b"again" * checkpointing
    if key not in model.backward:
        model.backward[key] = counted_once(
            model, key, lambda length: np.array([_backward(model, row, length, checkpointing)])
        )
    return float(examples * at_length(model.backward[key], tokens)[0])


def _backward(model: BlockModel, row: Row, tokens: int, checkpointing: bool) -> float:
    batch = blank_batch(model, 1, tokens)
    with at_hand(model.module), gradients(model, row) as parameters:
        loss = plain_loss(model, batch, checkpointing)
        return counted(lambda: torch.autograd.grad(loss, parameters, allow_unused=True))
