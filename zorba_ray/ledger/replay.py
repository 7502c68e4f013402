"""Replay: base + entries = weights, bit for bit. Resuming, auditing, exporting, catching up are all this function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zorba_ray.messages import CombinedStep, Header, PrivateStep, SharedStep, Step, TensorStep
from zorba_ray.noise import combine_in_turn

if TYPE_CHECKING:
    from torch import Tensor


AT_ONCE = 200  # steps for which a block's directions are in memory together


def replay(vectors: Sequence[Tensor], header: Header, steps: Iterable[Step]) -> None:
    """Move every block's flat vector by the steps, in their order and in place: the only place where weights ever
    change. A block goes through many steps in one pass; the bits are those of one step after the other."""
    waiting: list[SharedStep | PrivateStep | CombinedStep] = []
    for step in steps:
        if isinstance(step, TensorStep) or len(waiting) == AT_ONCE:
            move(vectors, header, waiting)
            waiting = []
        if isinstance(step, TensorStep):
            put(vectors, step)
        else:
            waiting.append(step)
    move(vectors, header, waiting)


def move(
    vectors: Sequence[Tensor], header: Header, steps: Sequence[SharedStep | PrivateStep | CombinedStep]
) -> None:
    """Along directions."""
    for column, (vector, block) in enumerate(zip(vectors, header.blocks, strict=True)):
        moves = [step.terms(header.seed, column) for step in steps]
        combine_in_turn(vector, moves, block.noise_id, header.noise)


def put(vectors: Sequence[Tensor], step: TensorStep) -> None:
    """Add a step's own vectors, or set them."""
    import torch

    for column, numbers in step.vectors.items():
        given = torch.tensor(numbers).to(vectors[column].device)
        if step.whole:
            vectors[column].copy_(given)
        else:
            vectors[column].add_(given)

