"""Matrices that never train, kept in few bits: dequantised for as long as a product takes.

The parameter keeps its shape and type but has no numbers any more (one NaN, seen everywhere), so that whatever would
read it by another way than the products here shows at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zorba_ray.model.quantise import Bits, Quantised, matrix_of, quantise


def freeze(parameters: Iterable[nn.Parameter], kind: Bits, precision: torch.dtype) -> None:
    """Quantise float32 matrices; products will see them dequantised to `precision`."""
    for parameter in parameters:
        parameter.few = quantise(parameter.data, kind)  # type: ignore[attr-defined]
        _hollow(parameter, parameter.data.device, precision)


def frozen_of(weight: Tensor) -> Quantised | None:
    """What a weight was quantised to, if it was."""
    few: Quantised | None = getattr(weight, "few", None)
    return few


def numbers_of(parameter: Tensor) -> Tensor:
    """The numbers of a parameter, dequantised if need be."""
    few = frozen_of(parameter)
    return parameter.detach() if few is None else matrix_of(few, torch.float32)


def move(parameter: nn.Parameter, device: torch.device) -> None:
    """Bring a parameter's numbers to a device."""
    few = frozen_of(parameter)
    if few is None:
        parameter.data = parameter.data.to(device)
    else:
        parameter.few = few.to(device)  # type: ignore[attr-defined]
        _hollow(parameter, device, parameter.dtype)


def _hollow(parameter: nn.Parameter, device: torch.device, precision: torch.dtype) -> None:
    parameter.data = torch.full((), torch.nan, dtype=precision, device=device).expand(parameter.shape)


def frozen_linear(x: Tensor, few: Quantised, bias: Tensor | None, transposed: bool = False) -> Tensor:
    """x Wᵀ + b (or x W + b) under autograd: the backward dequantises again, so that no float matrix waits for it."""
    return _FrozenLinear.apply(x, few, bias, transposed)  # type: ignore[no-any-return, no-untyped-call]


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, few: Quantised, bias: Tensor | None, transposed: bool) -> Tensor:
        ctx.few, ctx.transposed = few, transposed
        weight = matrix_of(few, torch.float32)
        if not transposed:
            return F.linear(x, weight, bias)
        assert bias is not None
        return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], weight.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        weight = matrix_of(ctx.few, torch.float32)
        back = gradient @ (weight.t() if ctx.transposed else weight)
        beside = gradient.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return back, None, beside, None
