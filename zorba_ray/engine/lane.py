"""Beside the computation: what is written ahead on a stream of its own while the present block is computed with.

`ahead` begins to write what is needed next, once all that was asked of the device so far is done, so that nobody reads
any more what is written over; what is asked after it may go on at the same time. `wait` lets what is asked from then on
come after what was written. On a CPU, where one thing is done after the other anyway, the order is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch


class Lane(Protocol):
    def ahead(self, write: Callable[[], None]) -> None: ...

    def wait(self) -> None: ...


class InTurn:
    """No stream: what is to be written is written at once."""

    def ahead(self, write: Callable[[], None]) -> None:
        write()

    def wait(self) -> None:
        pass


class Beside:
    """A CUDA stream beside the current one. What `write` makes on the way, it makes and frees on that stream."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def ahead(self, write: Callable[[], None]) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            write()

    def wait(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


@cache
def lane_on(device: torch.device) -> Lane:
    """One for all walks: with each stream the allocator keeps memory apart."""
    return Beside(device) if device.type == "cuda" else InTurn()
