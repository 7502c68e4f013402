"""Follows what the engine's own code holds on a device, on a model without numbers (`engine.twin`).

Every storage that an operation makes on the meta device is counted from then until it is freed, in the allocator's
units. What a kernel takes inside itself does not show. Attention is fused, as it is on CPUs and GPUs: it keeps its
result and one number a query. Copies between the CPU and the meta device are what crosses the bus.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zorba_ray.engine.memory import rounded
from zorba_ray.model.linear import linears
from zorba_ray.model.model import BlockModel

aten = torch.ops.aten
SHOW = Tensor.data.__set__  # type: ignore[attr-defined]
ASKED = (aten._local_scalar_dense.default,)  # questions for a number, which is answered by 0: a mask is not all ones

ON_HOST = (aten.clone.default, aten.sub.Tensor)  # with what left the device, for which one number stands there: a
# model of any size is followed in next to no memory


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes on the device: `live` now, `peak` since the beginning or the last `restart`; `moved` over the bus."""

    def __init__(self, held: Iterable[Tensor] = ()):
        """`held`: what lies on the device already."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.moved = 0
        self._known: set[int] = set()
        self._around = ExitStack()
        self.follow(held)
        self.restart()

    def __enter__(self) -> Trace:
        self._around.enter_context(_AsOnDevice())
        self._around.enter_context(fused_attention())
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._around.close()

    def restart(self) -> int:
        """Forget the peak so far; answers what is live."""
        self.peak = self.live
        return self.live

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        away = any(t.is_meta for t in given)
        if away and func in ASKED:
            return 0
        if func is aten.copy_.default and args[0].is_meta != args[1].is_meta:
            self.moved += args[0].nbytes
            return args[0]
        if func is aten._to_copy.default and "device" in kwargs and (kwargs["device"].type == "meta") != away:
            self.moved += args[0].nbytes
            if away:
                return torch.zeros((), dtype=kwargs.get("dtype") or args[0].dtype).expand(args[0].shape)
        if func in ON_HOST and all(t.numel() > 1 and not any(t.stride()) for t in given):
            return func(*(t.as_strided((), ()) for t in given)).expand(given[0].shape)
        out = func(*args, **kwargs)
        self.follow(t for t in tree_leaves(out) if isinstance(t, Tensor))
        return out

    def follow(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if tensor.is_meta and storage._cdata not in self._known:
                self._known.add(storage._cdata)
                size = rounded(storage.nbytes())
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, storage._cdata, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@cache
def nowhere(dtype: torch.dtype) -> Tensor:
    """What a parameter of the meta device shows while its numbers are in host memory."""
    return torch.empty((), dtype=dtype, device="meta")


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention that does not write its scores out, on the meta device too; also where a backward computes a layer
    again, which no mode of functions sees."""
    plain = F.scaled_dot_product_attention

    def chosen(query: Tensor, *rest: Any, **named: Any) -> Tensor:
        return (attention if query.is_meta else plain)(query, *rest, **named)

    F.scaled_dot_product_attention = chosen
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


class _AsOnDevice(TorchFunctionMode):
    """What the meta device cannot: a parameter that shows host memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func == SHOW and args[0].is_meta and not args[1].is_meta:
            args = (args[0], nowhere(args[1].dtype).expand(args[1].shape))
        return func(*args, **(kwargs or {}))


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:
    """As `scaled_dot_product_attention` does it before and in its fused kernel."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, -torch.inf).to(query.dtype)
    out = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )
    return out[0]  # type: ignore[no-any-return]


def resident(model: BlockModel) -> list[Tensor]:
    """Tensors of a model between two walks; views among them, and what is in host memory, too."""
    prototype = model.head.prototype
    modules = [model.module, *([] if prototype is None else [prototype])]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    tensors += [block.vector for block in model.blocks]
    for block in model.blocks:
        tensors += [t for few in block.few or () for t in few.tensors]
    tensors += [t for linear in linears(modules) if linear.stored for t in linear.stored.tensors]
    return [*tensors, model.head.words]
