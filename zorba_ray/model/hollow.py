"""Models without numbers: whatever can be asked of a model's shape, for the memory of a few objects.

Their tensors are PyTorch's fake tensors: they have a shape, a type and a device, and operations on them compute only
these. All belong to one mode, because fake tensors of two modes cannot meet; operations within `HOLLOW` make such
tensors, also from real ones.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

HOLLOW = FakeTensorMode(allow_non_fake_inputs=True)
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # what fails is raised, too

Operation = tuple[Any, ...]  # its name, and of each tensor given to it shape, strides, offset and type


def is_hollow(module: nn.Module) -> bool:
    return lacks_numbers(next(module.parameters()))


def at_hand(module: nn.Module) -> AbstractContextManager[Any]:
    """Where a model may be assembled and run: real numbers for a real one, none for a hollow one."""
    return HOLLOW if is_hollow(module) else nullcontext()


def with_numbers() -> AbstractContextManager[Any]:
    """Where numbers are made in any case, such as those that are kept for later models."""
    return _disable_current_modes()


def lacks_numbers(tensor: Tensor) -> bool:
    return isinstance(tensor, FakeTensor)


def fill_hollow(module: nn.Module) -> None:
    """Parameters that were made on the meta device become as hollow as the others."""
    with HOLLOW:
        for child in module.modules():
            for name, own in child._parameters.items():
                if own is not None and own.device.type == "meta":
                    child._parameters[name] = nn.Parameter(torch.empty(own.shape, dtype=own.dtype), requires_grad=False)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down which operations are done; what only looks at a tensor in another way shows in the next ones."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done: list[Operation] = []
        self._made: list[Any] = []  # by each of them, kept so that storages stay apart

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and any(isinstance(t, Tensor) for t in tree_leaves(out)):
            given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            self.done.append((str(func), *((t.shape, t.stride(), t.storage_offset(), t.dtype) for t in given)))
            self._made.append(out)
        return out

    def until(self, tensor: Tensor) -> list[Operation]:
        """The operations up to the last one that made this tensor, or what it is a view of."""
        makers = [
            number for number, made in enumerate(self._made)
            if any(isinstance(t, Tensor) and storage_of(t) == storage_of(tensor) for t in tree_leaves(made))
        ]
        return self.done[: makers[-1] + 1] if makers else []


def same_place(a: Tensor, b: Tensor) -> bool:
    """Whether two living tensors, with numbers or without, begin at the same place in memory."""
    return storage_of(a) == storage_of(b) and a.storage_offset() == b.storage_offset()


def storage_of(tensor: Tensor) -> int:
    """Tells living storages apart; addresses would not, where there are no numbers."""
    return int(tensor.untyped_storage()._cdata)
