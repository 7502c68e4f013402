"""A model without numbers: every tensor of another's, on the meta device, where operations know shapes only.

What runs on it is the engine's own code. The meta device stands for the client's GPU; what is in host memory stays on
the CPU, where room for a vector that nobody writes takes none.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from zorba_ray.model.blocks import Block
from zorba_ray.model.linear import Hosted, linears
from zorba_ray.model.model import BlockModel
from zorba_ray.model.quantise import Quantised, without_numbers

META = torch.device("meta")


def twin_of(model: BlockModel) -> BlockModel:
    """The model's twin; all of its blocks are on the device."""
    known: dict[int, Any] = {}  # what stands for each tensor of the model
    modules = [model.module, *([] if model.head.prototype is None else [model.head.prototype])]
    for module in modules:
        for parameter in module.parameters():
            known[id(parameter)] = nn.Parameter(empty(parameter.data), requires_grad=parameter.requires_grad)
        for buffer in module.buffers():
            known[id(buffer)] = empty(buffer)
    for linear in linears(modules):
        if isinstance(linear.stored, Quantised):
            known[id(linear.stored)] = without_numbers(linear.stored.kind, linear.stored.shape)
        elif isinstance(linear.stored, Hosted):
            numbers = linear.stored.numbers
            known[id(linear.stored)] = Hosted(numbers.new_empty(()).expand(numbers.shape), META)
    for block in model.blocks:
        known[id(block.vector)] = torch.empty(block.size, dtype=torch.float32, device=META)
        known[id(block.base)] = []
        known[id(block.few)] = None
    known[id(model.head.words)] = empty(model.head.words)
    known[id(model.staging)] = None
    known |= {id(scratch): None for scratch in model.scratch}
    twin = copy.deepcopy(model, known)
    twin.device, twin.scratch = META, ()
    for block, original in zip(twin.blocks, model.blocks, strict=True):
        cut, block.base = block.matrix_size, original.base
        block.base, block.offloaded = block.views(block.vector[:cut], block.vector[cut:]), False
        block.point(block.base)
    return twin


def few_of(block: Block) -> list[Quantised]:
    """A block's matrices in the few bits in which who does not tune it keeps them; none where they are kept whole."""
    if block.bits is None:
        return []
    shapes = [view.shape for view, start in zip(block.base, block.starts, strict=True) if start < block.matrix_size]
    return [without_numbers(block.bits, tuple(shape)) for shape in shapes]


def empty(tensor: Tensor) -> Tensor:
    """Of the same shape, and as little memory where one number stands for all (`Linear.store`)."""
    if tensor.numel() > 1 and not any(tensor.stride()):
        return torch.empty((), dtype=tensor.dtype, device=META).expand(tensor.shape)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
