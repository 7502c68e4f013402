"""What the allocation must know of a model: sizes, FLOPs and the memory of a forward, for one client's mini-batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zorba_ray.engine.backward import saved_bytes
from zorba_ray.engine.cost import blank_batch, kind_of, stage_flops
from zorba_ray.engine.memory import ModelShape
from zorba_ray.model.blocks import Block
from zorba_ray.model.hollow import HOLLOW
from zorba_ray.model.linear import Storage, linears
from zorba_ray.model.model import BlockModel
from zorba_ray.model.quantise import quantised_bytes

LIVE_STATES = 2  # hidden states of one client that wait while a layer runs: the shared prefix and the layer's input


def model_shape(model: BlockModel, examples: int, tokens: int, with_gradients: bool = False) -> ModelShape:
    """The shape of a model for mini-batches of `examples` with `tokens` each."""
    flops = stage_flops(model, examples, tokens)
    columns = model.columns
    first = next(i for i, column in enumerate(columns) if column is not None)
    parts = model.parts
    modules: list[list[torch.nn.Module]] = [parts.stem, *([layer] for layer in parts.layers), model.head.tail]
    per_block = [0.0] * len(model.blocks)
    held: list[dict[int, Parameter]] = [{} for _ in model.blocks]
    fixed: dict[int, Parameter] = {}
    before = after = 0.0
    for stage, column in enumerate(columns):
        own = {id(p): p for module in modules[stage] for p in module.parameters()}
        if column is not None:
            per_block[column] += flops[stage]
            held[column] |= own
        else:
            fixed |= own
            before, after = (before + flops[stage], after) if stage < first else (before, after + flops[stage])
    for block in held:
        fixed = {key: parameter for key, parameter in fixed.items() if key not in block}
    stored = {id(linear.weight): linear.stored for linear in linears([model.module]) if linear.stored is not None}
    kept = [_in_few_bits(block, held[block.index].values(), stored) for block in model.blocks]
    fixed_few = [stored[key] for key in fixed if key in stored]
    return ModelShape(
        names=tuple(block.name for block in model.blocks),
        trainable=tuple(block.size for block in model.blocks),
        parameters=tuple(sum(p.numel() for p in block.values()) for block in held),
        flops=tuple(per_block),
        flops_before=before,
        flops_after=after,
        fixed_parameters=sum(p.numel() for key, p in fixed.items() if key not in stored),
        hidden=LIVE_STATES * 4 * examples * tokens * model.hidden_size,
        workspace=forward_workspace(model, examples, tokens),
        few=tuple(numbers for numbers, _ in kept),
        few_bytes=tuple(size for _, size in kept),
        fixed_few_bytes=sum(few.bytes for few in fixed_few),
        **(_for_gradients(model, examples, tokens) if with_gradients else {}),
    )


def _for_gradients(model: BlockModel, examples: int, tokens: int) -> dict[str, Any]:
    """What waits for the backward: in each block if all are trained, and if only the first one is."""
    blocks, columns = len(model.blocks), model.columns
    everything, first = np.ones(blocks, dtype=np.bool_), np.arange(blocks) == 0
    saved, passed = (saved_bytes(model, row, examples, tokens) for row in (everything, first))

    def of(column: int | None, sizes: NDArray[np.float64]) -> float:
        return float(sum(size for size, other in zip(sizes, columns, strict=True) if other == column))

    return {
        "saved": tuple(of(column, saved) for column in range(blocks)),
        "passed": (0.0, *(of(column, passed) for column in range(1, blocks))),
        "saved_fixed": of(None, saved),
    }


def _in_few_bits(block: Block, parameters: Iterable[Parameter], stored: dict[int, Storage]) -> tuple[int, int]:
    """How many of a block's numbers are kept in few bits, and the bytes that they take."""
    if block.bits is not None:
        shapes = [tuple(view.shape) for view, start in zip(block.base, block.starts, strict=True)
                  if start < block.matrix_size]
        return block.matrix_size, sum(quantised_bytes(block.bits, shape) for shape in shapes)
    few = [parameter for parameter in parameters if id(parameter) in stored]
    return sum(parameter.numel() for parameter in few), sum(stored[id(parameter)].bytes for parameter in few)


def forward_workspace(model: BlockModel, examples: int, tokens: int) -> int:
    """Peak bytes of the tensors that the stem, a layer or the head makes, from a forward with fake tensors.

    What a kernel takes inside itself does not show here.
    """
    batch = blank_batch(model, examples, tokens)
    with HOLLOW, torch.no_grad():
        kept: dict[str, Any] = {}

        def stem() -> None:
            kept["hidden"], kept["context"] = model.stem(batch)

        def layer(index: int) -> None:
            kept["out"] = model.layer(index, kept["hidden"], kept["context"])

        peaks = [peak_bytes(stem)]
        one_of_each = {kind_of(module): index for index, module in enumerate(model.parts.layers)}
        peaks += [peak_bytes(lambda i=index: layer(i)) for index in one_of_each.values()]  # type: ignore[misc]
        peaks.append(peak_bytes(lambda: model.head.answer(kept["hidden"], batch)))
    return max(peaks)


def peak_bytes(run: Callable[[], Any]) -> int:
    """Most bytes alive at once of the tensors made during `run`."""
    tracker = _Tracker()
    with tracker:
        run()
    return tracker.peak


class _Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known | given:
                    self._known.add(storage._cdata)
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return out

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size
