"""Replay: base + entries = weights, bit for bit. Resuming, auditing, exporting, catching up are all this function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zorba_ray.ledger.file import Header
from zorba_ray.ledger.step import Step
from zorba_ray.noise import combine

if TYPE_CHECKING:
    from torch import Tensor


def apply_step(vectors: Sequence[Tensor], header: Header, step: Step) -> None:
    """Move every block's flat vector by one step, in place: the only place where weights ever change."""
    for column, (vector, block) in enumerate(zip(vectors, header.blocks, strict=True)):
        terms = step.terms(header.seed, column)
        if terms:
            combine(vector, vector, terms, block.noise_id, header.noise)


def replay(vectors: Sequence[Tensor], header: Header, steps: Iterable[Step]) -> None:
    """Bring base vectors to the state after the given steps, in order."""
    for step in steps:
        apply_step(vectors, header, step)
