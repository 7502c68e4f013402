"""Matrices in the library's own layout for products on a CPU: paid once a version, gained with every batch, same bits.

MKL (float32, for one number of rows) and oneDNN (bfloat16) spend a tenth to a third of a product on rearranging the
matrix. Whoever shows a version to many batches rearranges it once. That the bits are those of the plain product is
checked once for every shape; a shape that fails the check is never packed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_SIZE = 1 << 16  # smaller matrices are multiplied sooner than they are packed
ANY_ROWS = 512  # oneDNN lays out for this many rows; any number may be multiplied


@dataclass
class Packed:
    """A packed matrix; `rows`: how many rows may be multiplied with it, 0 for any number."""

    matrix: Any
    rows: int


_proven: dict[tuple[object, ...], bool] = {}


def packable(modules: Iterable[nn.Module], precision: torch.dtype, device: torch.device) -> list[nn.Linear]:
    """The linear modules that would gain from packing on this machine."""
    if device.type != "cpu" or not _available(precision):
        return []
    return [
        module
        for module in modules
        if isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward
        and module.weight.numel() >= LEAST_SIZE
    ]


def pack(parameters: Iterable[nn.Parameter], rows: int) -> None:
    """Pack matrices as they are shown now, for products with `rows` rows."""
    for parameter in parameters:
        weight = parameter.data
        matrix = _pack(weight, rows)
        key = (weight.dtype, tuple(weight.shape), rows, torch.get_num_threads())
        if key not in _proven:
            _proven[key] = _same_bits(weight, matrix, rows)
        if _proven[key]:
            parameter.packed = Packed(matrix, 0 if weight.dtype == torch.bfloat16 else rows)  # type: ignore[attr-defined]


def unpack(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.packed = None  # type: ignore[attr-defined]


def packed_of(weight: Tensor, x: Tensor) -> Packed | None:
    """The packed form of a weight, where it was made and fits the rows of x [..., in]."""
    packed: Packed | None = getattr(weight, "packed", None)
    if packed is None or packed.rows in (0, x.numel() // x.shape[-1]):
        return packed
    return None


def product(x: Tensor, weight: Tensor, packed: Packed, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b by the packed matrix, in the weight's type."""
    if weight.dtype == torch.float32:
        return torch.ops.mkl._mkl_linear(x, packed.matrix, weight, bias, packed.rows)  # type: ignore[no-any-return]
    return torch.ops.mkldnn._linear_pointwise(x, packed.matrix, bias, "none", [], "")  # type: ignore[no-any-return]


def _available(precision: torch.dtype) -> bool:
    if precision == torch.float32:
        return bool(torch._C.has_mkl) and hasattr(torch.ops.mkl, "_mkl_linear")
    return precision == torch.bfloat16 and onednn_takes_float_bias()


def _pack(weight: Tensor, rows: int) -> Any:
    if weight.dtype == torch.float32:
        return torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
    return torch.ops.mkldnn._reorder_linear_weight(weight, ANY_ROWS)


def _same_bits(weight: Tensor, matrix: Any, rows: int) -> bool:
    """Whether packed and plain products agree to the bit on one batch of numbers, with a bias and without."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, weight.shape[1], generator=generator).to(weight.dtype)
    bias = torch.randn(weight.shape[0], generator=generator)
    for b in (bias, None):
        ours = product(x, weight, Packed(matrix, rows), b)
        if weight.dtype == torch.float32 or b is None:
            plain = F.linear(x, weight, b)
        else:
            plain = torch.ops.mkldnn._linear_pointwise(x, weight, b, "none", [], "")
        if not torch.equal(ours, plain):
            return False
    return True


def onednn_takes_float_bias() -> bool:
    """Whether oneDNN adds a float32 bias to a bfloat16 product before rounding; checked once, by its result."""
    global _takes_float_bias
    if _takes_float_bias is None:
        x, w = torch.eye(4, 32, dtype=torch.bfloat16), torch.full((3, 32), 0.5, dtype=torch.bfloat16)
        bias = torch.tensor([1.0009765625, 0.0, -0.4990234375])  # the last survives only if it is not rounded first
        try:
            out = torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "").float()
        except (RuntimeError, AttributeError):
            _takes_float_bias = False
        else:
            _takes_float_bias = bool(torch.equal(out, (0.5 + bias).bfloat16().float().expand(4, 3)))
    return _takes_float_bias


_takes_float_bias: bool | None = None
