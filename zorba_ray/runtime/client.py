"""The actor that carries clients: one (placement per_client) or many (cohort). A thin shell around a host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.ledger import Step
from zorba_ray.rounds.plan import Report, RoundPlan

if TYPE_CHECKING:
    from zorba_ray.rounds.prepare import Base


class ClientActor:
    """Imports late and starts importing at once, so that actors warm up while the driver still reads data."""

    def __init__(self, threads: int, device: str, memory_share: float):
        import torch

        import zorba_ray.rounds.prepare  # noqa: F401  heavy: transformers, numba

        torch.set_num_threads(threads)
        if device == "cuda" and memory_share < 1:
            torch.cuda.set_per_process_memory_fraction(memory_share)
        self._device = device
        self._host: Any = None

    def setup(self, base: Base, offloaded: Sequence[int]) -> int:
        """Build the model from the weights in the object store; answers with this process's id."""
        from zorba_ray.rounds.prepare import build_host

        self._host = build_host(base, self._device, offloaded)
        return os.getpid()

    def probe(
        self, steps: Sequence[Step], plan: RoundPlan, clients: Sequence[int], active: NDArray[np.bool_]
    ) -> list[Report]:
        """Catch up, then the clients' scalars."""
        self._host.apply(steps)
        reports: list[Report] = self._host.probe(plan, clients, active)
        return reports

    def evaluate(self, steps: Sequence[Step], batches: Sequence[NDArray[np.int64]]) -> list[Any]:
        """Catch up, then one tally per batch of test examples."""
        self._host.apply(steps)
        return [self._host.evaluate([batch]) for batch in batches]

    def digest(self, steps: Sequence[Step]) -> str:
        self._host.apply(steps)
        digest: str = self._host.digest()
        return digest
