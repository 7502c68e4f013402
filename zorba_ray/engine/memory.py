"""What a client's VRAM consists of, as a function of its active blocks. Bytes throughout; no torch.

VRAM(a) = fixed + Σ_l [a_l active_l + (1 − a_l) frozen_l] + max over blocks of (scratch_l if active, else transit_l).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Matrix = NDArray[np.bool_]


@dataclass(frozen=True)
class VramModel:
    """The terms of VRAM(a); one client at a time, all clients alike."""

    fixed: float  # context, stem and head, live hidden states, workspace
    active: Floats  # [L] a block that is tuned: float32 master and its state
    frozen: Floats  # [L] a block that is not: what it keeps on the device, 0 when it is streamed in
    scratch: Floats  # [L] the evaluated copy, base + direction, of an active block
    transit: Floats  # [L] the buffer through which a frozen block is streamed, 0 when it is resident

    def __post_init__(self) -> None:
        shapes = {part.shape for part in (self.active, self.frozen, self.scratch, self.transit)}
        assert len(shapes) == 1, f"terms of the VRAM model differ in length: {shapes}"

    def of(self, rows: Matrix) -> Floats:
        """VRAM of each row of activations [..., L]."""
        kept = self.fixed + np.where(rows, self.active, self.frozen).sum(axis=-1)
        buffer: Floats = np.where(rows, self.scratch, self.transit).max(axis=-1)
        return np.asarray(kept + buffer, dtype=np.float64)

    @property
    def blocks(self) -> int:
        return len(self.active)

    @property
    def least(self) -> float:
        """Smallest budget that holds the model without an active block."""
        return float(self.of(np.zeros(self.blocks, dtype=bool)))

    def alone(self) -> Floats:
        """Smallest budget with which each block can be tuned at all, [L]."""
        return self.of(np.eye(self.blocks, dtype=bool))

    @property
    def groups(self) -> NDArray[np.int64]:
        """Blocks that cost the same share a number, [L]."""
        costs = np.stack([self.active, self.frozen, self.scratch, self.transit], axis=1)
        return np.unique(costs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@dataclass(frozen=True)
class ModelShape:
    """What the allocation must know of a model; the run and the command line fill it, from weights or without."""

    names: tuple[str, ...]  # [L] of the blocks
    trainable: tuple[int, ...]  # [L] trainable numbers d_l
    parameters: tuple[int, ...]  # [L] all numbers of the block, adapters included
    flops: tuple[float, ...]  # [L] of one forward of a client's mini-batch
    flops_before: float  # stages that are not blocks, before the first one
    flops_after: float  # and after the last one
    fixed_parameters: int  # of stem and head where they are not blocks (and of layers without a block), in full
    hidden: int  # bytes of the live hidden states of a mini-batch
    workspace: int  # bytes of the largest temporaries of a forward
    context: int = 0  # bytes of the device's context; 0 on a CPU
    few: tuple[int, ...] = ()  # [L] numbers kept in few bits, of a block trained whole while it is frozen; () is none
    few_bytes: tuple[int, ...] = ()  # [L] what they take then, codes and magnitudes
    fixed_few_bytes: int = 0  # of layers without a block
    saved: tuple[float, ...] = ()  # [L] bytes that a forward leaves for the backward in a block that is trained
    passed: tuple[float, ...] = ()  # [L] in one that is not, but behind one that is
    saved_fixed: float = 0.0  # after the last block


def vram_model(shape: ModelShape, itemsize: int, frozen: str) -> VramModel:
    """The model's terms: `itemsize` bytes per evaluated weight, `frozen` as in the config.

    A block that is trained whole keeps a float32 master and writes its evaluated copy to the scratch. One that is
    trained in part (adapters, groups) also keeps the rest of its weights, evaluated as they are; in few bits they are
    dequantised matrix by matrix, which the workspace counts. A whole block in few bits is dequantised into the scratch.
    """
    trainable = np.asarray(shape.trainable, dtype=np.float64)
    rest = np.asarray(shape.parameters, dtype=np.float64) - trainable
    stored = itemsize * np.asarray(shape.parameters, dtype=np.float64)
    nothing = np.zeros_like(stored)
    few = np.asarray(shape.few, dtype=np.float64) if shape.few else nothing
    few_bytes = np.asarray(shape.few_bytes, dtype=np.float64) if shape.few_bytes else nothing
    saved = itemsize * few - few_bytes
    in_part = rest > 0
    fixed = shape.context + itemsize * shape.fixed_parameters + shape.fixed_few_bytes + shape.hidden + shape.workspace
    return VramModel(
        fixed=float(fixed),
        active=4 * trainable + itemsize * rest - np.where(in_part, saved, 0.0),
        frozen=nothing if frozen == "offload" else stored - saved,
        scratch=itemsize * trainable,
        transit=stored if frozen == "offload" else np.where(~in_part & (few > 0), stored, 0.0),
    )


STATE = {"adamw": 8, "sgd": 0}  # bytes of an optimiser's state for each trained number; momentum has 4 more


def gradient_model(shape: ModelShape, frozen: str, state: int) -> VramModel:
    """The terms of training with gradients, in float32; `state` bytes of the optimiser for each trained number.

    A block that is trained keeps weights, the optimiser's state, and the larger of its gradients and what its forward
    left for the backward, which makes room for them. A frozen one is counted as if a block before it were trained.
    """
    plain = vram_model(shape, 4, "resident" if frozen == "offload" else frozen)
    trainable = np.asarray(shape.trainable, dtype=np.float64)
    saved, passed = np.asarray(shape.saved), np.asarray(shape.passed)
    nothing = np.zeros_like(trainable)
    return VramModel(
        fixed=plain.fixed + shape.saved_fixed,
        active=plain.active + state * trainable + np.maximum(saved, 4 * trainable),
        frozen=plain.frozen + passed,
        scratch=nothing,
        transit=nothing,
    )


def textbook(shape: ModelShape, itemsize: int) -> VramModel:
    """The in-place estimator: all weights are resident and perturbed where they lie, so activation saves nothing."""
    stored = itemsize * np.asarray(shape.parameters, dtype=np.float64)
    nothing = np.zeros_like(stored)
    fixed = shape.context + itemsize * shape.fixed_parameters + shape.hidden + shape.workspace
    return VramModel(float(fixed), stored, stored, nothing, nothing)
