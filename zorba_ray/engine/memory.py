"""What a client's VRAM consists of, as a function of its active blocks. Bytes throughout; no torch.

VRAM(a) = fixed + awake·[any active] + Σ_l [a_l active_l + (1 − a_l) frozen_l]
          + max over blocks of (scratch_l if active, else transit_l).

`engine.predict` fills the terms from a model and a method's paths; `rounds.rehearsal` follows the real code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Matrix = NDArray[np.bool_]

PAGE = 512  # bytes: what PyTorch's allocator hands out is a multiple of it


def rounded(size: int) -> int:
    """Bytes that a tensor of `size` bytes takes."""
    return -(-size // PAGE) * PAGE


@dataclass(frozen=True)
class VramModel:
    """The terms of VRAM(a); one client at a time, all clients alike."""

    fixed: float  # context, what is no block's, and a forward with no active block
    active: Floats  # [L] a block that is tuned: float32 master and its state
    frozen: Floats  # [L] a block that is not: what it keeps on the device, 0 when it is streamed in
    scratch: Floats  # [L] the evaluated copy, base + direction, of an active block
    transit: Floats  # [L] the buffer through which a frozen block is shown, 0 when it is shown where it lies
    awake: float = 0.0  # more than a forward: live hidden states and losses of the probes
    parts: dict[str, float] = field(default_factory=dict)  # of fixed + awake, by name, for tables
    buffers: int = 1  # that scratch and transit count

    def __post_init__(self) -> None:
        shapes = {part.shape for part in (self.active, self.frozen, self.scratch, self.transit)}
        assert len(shapes) == 1, f"terms of the VRAM model differ in length: {shapes}"

    def of(self, rows: Matrix) -> Floats:
        """VRAM of each row of activations [..., L]."""
        kept = self.fixed + np.where(rows, self.active, self.frozen).sum(axis=-1)
        buffer: Floats = np.where(rows, self.scratch, self.transit).max(axis=-1)
        return np.asarray(kept + buffer + self.awake * rows.any(axis=-1), dtype=np.float64)

    def split(self, row: Matrix) -> dict[str, float]:
        """VRAM of one row, by what it is for; the parts add up to `of(row)`."""
        found = {
            "context": self.parts.get("context", 0.0),
            "weights": self.parts.get("weights", 0.0) + float(self.frozen[~row].sum()),
            "active": float(self.active[row].sum()) + float(np.where(row, self.scratch, self.transit).max()),
            "hidden": self.parts.get("hidden", 0.0) if row.any() else 0.0,
        }
        return found | {"workspace": float(self.of(row)) - sum(found.values())}

    @property
    def blocks(self) -> int:
        return len(self.active)

    @property
    def exact(self) -> bool:
        """Whether the terms say all; if not, they and `tuned` are an underestimate of `of`."""
        return True

    @property
    def tuned(self) -> Floats:
        """What each block costs that is tuned, [L]."""
        return self.active

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
class GradientVram(VramModel):
    """Training with gradients: VRAM(a) = the terms above + max over c of the moments of a step. At moment c the
    backward has passed the blocks from c on, which have left gradients; those before still hold what their forward left
    for it, the frozen ones only behind the first active one."""

    first: Floats = field(default_factory=lambda: np.zeros(0))  # [L] what a forward leaves in the first active block
    saved: Floats = field(default_factory=lambda: np.zeros(0))  # [L] in another that is tuned
    passed: Floats = field(default_factory=lambda: np.zeros(0))  # [L] in one that is not, behind one that is
    gradients: Floats = field(default_factory=lambda: np.zeros(0))  # [L] of a block that is tuned
    stepped: Floats = field(default_factory=lambda: np.zeros(0))  # [L] that the optimiser's first step makes
    beside: Floats = field(default_factory=lambda: np.zeros(0))  # [L + 1] workspace of each moment
    making: Floats = field(default_factory=lambda: np.zeros((3, 0)))  # [3, L] most while a block's forward goes on: if
    # it is the first active one, another, or frozen behind one
    again: Floats = field(default_factory=lambda: np.zeros((3, 0)))  # [3, L] what its backward computes once more of it

    def of(self, rows: Matrix) -> Floats:
        count = rows.cumsum(axis=-1)
        role = np.where(rows, np.where(count == 1, 0, 1), 2)
        block = np.arange(self.blocks)
        waiting = np.where(count > 0, np.stack([self.first, self.saved, self.passed])[role, block], 0.0)
        made = np.where(rows, self.gradients, 0.0)
        zero = np.zeros((*rows.shape[:-1], 1))
        below = np.concatenate([zero, waiting.cumsum(axis=-1)], axis=-1)
        above = np.concatenate([made[..., ::-1].cumsum(axis=-1)[..., ::-1], zero], axis=-1)
        moments = below + above + self.beside
        moments[..., 1:] += np.where(count > 0, self.again[role, block], 0.0)
        moments[..., 0] += np.where(rows, self.stepped, 0.0).sum(axis=-1)
        forward = np.where(count > 0, below[..., :-1] + self.making[role, block], -self.awake)  # before: as any forward
        fullest = np.maximum(moments.max(axis=-1), forward.max(axis=-1))
        return np.asarray(super().of(rows) + np.where(rows.any(axis=-1), fullest, 0.0))

    @property
    def exact(self) -> bool:
        return False

    @property
    def tuned(self) -> Floats:
        """With what all hold at one moment: the first of the backward, or the last."""
        ends = np.minimum(self.first, self.saved), self.gradients + self.stepped
        return np.asarray(self.active + max(ends, key=np.sum))

    @property
    def groups(self) -> NDArray[np.int64]:
        """No two cost the same: what the others cost depends on which is the first."""
        return np.arange(self.blocks)


@dataclass(frozen=True)
class ModelShape:
    """What the allocation must know of a model beside its memory."""

    names: tuple[str, ...]  # [L] of the blocks
    trainable: tuple[int, ...]  # [L] trainable numbers d_l
    flops: tuple[float, ...]  # [L] of one forward of a client's mini-batch
    flops_before: float  # stages that are not blocks, before the first one
    flops_after: float  # and after the last one


def textbook(vram: VramModel) -> VramModel:
    """The in-place estimator of a model that is trained whole: all blocks lie on the device in the precision of
    evaluation and are perturbed there, so activation saves nothing."""
    weights, nothing = vram.scratch / vram.buffers, np.zeros_like(vram.scratch)
    return replace(vram, active=weights, frozen=weights, scratch=nothing, transit=nothing, awake=0.0)
