"""Replay: base + entries = weights, bit for bit. Resuming, auditing, exporting, catching up are all this function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zorba_ray.messages import Header, Step, TensorStep
from zorba_ray.noise import combine

if TYPE_CHECKING:
    from torch import Tensor


def apply_step(vectors: Sequence[Tensor], header: Header, step: Step) -> None:
    """Move every block's flat vector by one step, in place: the only place where weights ever change."""
    if isinstance(step, TensorStep):
        put(vectors, step)
        return
    for column, (vector, block) in enumerate(zip(vectors, header.blocks, strict=True)):
        terms = step.terms(header.seed, column)
        if terms:
            combine(vector, vector, terms, block.noise_id, header.noise)


def put(vectors: Sequence[Tensor], step: TensorStep) -> None:
    """Add a step's own vectors, or set them."""
    import torch

    for column, numbers in step.vectors.items():
        given = torch.tensor(numbers).to(vectors[column].device)
        if step.whole:
            vectors[column].copy_(given)
        else:
            vectors[column].add_(given)


def replay(vectors: Sequence[Tensor], header: Header, steps: Iterable[Step]) -> None:
    """Bring base vectors to the state after the given steps, in order."""
    for step in steps:
        apply_step(vectors, header, step)
