"""What a client sends back, and what stands for it where nothing came."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VectorLayout = tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes of the parameters in a block's vector


@dataclass(frozen=True)
class Report:
    """What a client sends back: ρ float32 [local steps · J], local steps outermost (or `vectors`); the rest is measured
    by the simulator and costs no bytes.

    `block_evaluations` counts layers evaluated (trie edges); `seconds` is its share, by FLOPs, of its host's time.
    """

    client: int
    scalars: NDArray[np.float32]
    loss: float
    examples: int
    block_evaluations: int
    flops: float
    seconds: float
    backward_flops: float = 0.0
    vectors: tuple[NDArray[np.float32] | None, ...] | None = None  # first-order: change of each block that it trained
    layout: tuple[VectorLayout, ...] = ()  # first-order, where `vectors` are no changes: what is in them
    status: str = "ok"
    upload: int = 0  # bytes of its message
    bus: int = 0  # bytes between host memory and device, in its walks
    hidden: int = 0  # of these, what crosses while its device computes
    measured_bytes: int = 0  # of VRAM, by a client alone under its own cap on a GPU, as reserved; 0: not measured
    allocated_bytes: int = 0  # likewise, as allocated


def nothing_from(client: int, status: str, examples: int = 0) -> Report:
    """Stands for the report of a client from whom nothing came, and says why."""
    return Report(client, np.zeros(0, np.float32), math.nan, examples, 0, 0.0, 0.0, status=status)
