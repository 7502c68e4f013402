"""Blocks: the columns of the allocation, each with its trainable numbers in one flat float32 vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor, nn

from zorba_ray.model.linear import Linear
from zorba_ray.model.packing import packed
from zorba_ray.model.quantise import Bits, Quantised, quantise

SLICE = 1 << 20  # float32 numbers of an offloaded block that are on the device at once on their way to few bits


@dataclass
class Block:
    """What is perturbed and stepped as one; the module's parameters are views into `vector`.

    Matrices of linear and embedding modules come first (`matrix_size` numbers, evaluated in the run's precision), then
    norms, biases and the rest, always evaluated in float32.
    """

    index: int  # column of the allocation
    name: str
    noise_id: int  # block number of its directions: stem (and tied head) 0, layer l → l + 1, head L + 1
    vector: Tensor  # [size] float32
    matrix_size: int
    names: list[str]  # of the parameters, in the order of the vector
    parameters: list[nn.Parameter]
    base: list[Tensor]  # views of `vector`, one per parameter
    offloaded: bool  # the vector stays in host memory and is copied to the scratch whenever the block is visited
    packed: list[Linear] = field(default_factory=list)  # packed while a version is shown to many batches
    bits: Bits | None = None  # how a client that has the block frozen keeps its matrices; None: as they are
    few: list[Quantised] | None = None  # the matrices so kept, until the vector moves

    @property
    def size(self) -> int:
        return self.vector.numel()

    def point(self, views: Sequence[Tensor]) -> None:
        """Let the parameters show other numbers; `point(block.base)` brings the base back."""
        for parameter, view in zip(self.parameters, views, strict=True):
            parameter.data = view

    def frozen(self, device: torch.device) -> list[Quantised]:
        """The matrices in few bits, as of now."""
        assert self.bits is not None, f"{self.name} has no frozen version of its own"
        if self.few is None:
            whole = [view for view, start in zip(self.base, self.starts, strict=True) if start < self.matrix_size]
            self.few = [quantise(view, self.bits).to(device) for view in whole]
        return self.few

    def pack(self, rows: int) -> None:
        """Pack the matrices as they are shown now, for products with `rows` rows; 0: unpack them."""
        for linear in self.packed:
            linear.packed = packed(linear.weight.data, rows) if rows else None

    @property
    def starts(self) -> list[int]:
        """Where each parameter begins in the vector."""
        return [0, *accumulate(view.numel() for view in self.base)][:-1]

    def views(self, matrices: Tensor, others: Tensor) -> list[Tensor]:
        """Views shaped like the parameters: of `matrices` [matrix_size] and then of `others` [size − matrix_size]."""
        out, offset = [], 0
        for parameter in self.base:
            source, start = (matrices, offset) if offset < self.matrix_size else (others, offset - self.matrix_size)
            out.append(source[start : start + parameter.numel()].view(parameter.shape))
            offset += parameter.numel()
        return out


def make_block(
    index: int, name: str, noise_id: int, named: Sequence[tuple[str, nn.Parameter]], matrices: set[int],
    device: torch.device, offloaded: bool = False,
) -> Block:
    """Move unique trainable parameters into one flat vector, matrices first, and leave them as views of it."""
    order = sorted(named, key=lambda item: id(item[1]) not in matrices)
    matrix_size = sum(parameter.numel() for _, parameter in order if id(parameter) in matrices)
    count = sum(parameter.numel() for _, parameter in order)
    vector = empty_vector(count, device, offloaded)
    block = Block(
        index, name, noise_id, vector, matrix_size,
        names=[name for name, _ in order],
        parameters=[parameter for _, parameter in order],
        base=[parameter.data for _, parameter in order],
        offloaded=offloaded,
    )
    views = block.views(vector[:matrix_size], vector[matrix_size:])
    for view, parameter in zip(views, block.parameters, strict=True):
        view.copy_(parameter.data)
    block.base = views
    block.point(views)
    return block


def empty_vector(count: int, device: torch.device, offloaded: bool) -> Tensor:
    """Room for a block's numbers: on the device, or in host memory from where it is copied there quickly."""
    where = torch.device("cpu") if offloaded else device
    return torch.empty(count, dtype=torch.float32, device=where, pin_memory=offloaded and device.type == "cuda")


def move_block(block: Block, device: torch.device, offloaded: bool) -> None:
    """Take a block's vector to host memory, or back to the device; its numbers stay what they are."""
    if block.offloaded == offloaded:
        return
    vector = empty_vector(block.size, device, offloaded)
    vector.copy_(block.vector)
    block.base = block.views(vector[: block.matrix_size], vector[block.matrix_size :])
    block.vector, block.offloaded = vector, offloaded
    block.point(block.base)


@dataclass
class Scratch:
    """Where perturbed blocks are written: one buffer as large as the largest of those that were, shared by all."""

    matrices: Tensor  # in the precision of evaluation
    others: Tensor  # float32; the same memory for float32 evaluation
    views: dict[int, list[Tensor]] = field(default_factory=dict)  # by column

    @property
    def shared(self) -> bool:
        return self.matrices is self.others

    @property
    def bytes(self) -> int:
        sizes = [t.numel() * t.element_size() for t in (self.matrices, self.others)]
        return sizes[0] if self.shared else sum(sizes)

    def holds(self, block: Block) -> bool:
        matrices, others = parts_of(block, self.shared)
        return self.matrices.numel() >= matrices and self.others.numel() >= others

    def show(self, block: Block) -> list[Tensor]:
        """Views of it shaped like the block's parameters."""
        if block.index not in self.views:
            cut, rest = block.matrix_size, block.size - block.matrix_size
            others = self.others[cut : block.size] if self.shared else self.others[:rest]
            self.views[block.index] = block.views(self.matrices[:cut], others)
        return self.views[block.index]


def parts_of(block: Block, shared: bool) -> tuple[int, int]:
    """Numbers of a block that go to either part of a scratch."""
    return (block.size, 0) if shared else (block.matrix_size, block.size - block.matrix_size)


def make_scratch(sizes: tuple[int, int], precision: torch.dtype, device: torch.device) -> Scratch:
    """Room for so many numbers in the precision of evaluation, and in float32 where that is another."""
    matrices = torch.empty(sizes[0], dtype=precision, device=device)
    if precision == torch.float32:
        return Scratch(matrices, matrices)
    return Scratch(matrices, torch.empty(sizes[1], dtype=torch.float32, device=device))
