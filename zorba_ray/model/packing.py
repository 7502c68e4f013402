"""Matrices in the library's own layout for products on a CPU: paid once a version, gained with every batch, same bits.

MKL (float32, for one number of rows) and oneDNN (bfloat16) spend a tenth to a third of a product on rearranging the
matrix. Whoever shows a version to many batches rearranges it once. That the bits are those of the plain product is
checked once for every shape; a shape that fails the check is never packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zorba_ray.model.hollow import with_numbers

LEAST_SIZE = 1 << 16  # smaller matrices are multiplied sooner than they are packed
ANY_ROWS = 512  # oneDNN lays out for this many rows; any number may be multiplied


@dataclass
class Packed:
    """A packed matrix; `rows`: how many rows may be multiplied with it, 0 for any number."""

    matrix: Any
    rows: int

    def fits(self, x: Tensor) -> bool:
        return self.rows in (0, x.numel() // x.shape[-1])

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x Wᵀ + b in the weight's type."""
        if weight.dtype == torch.float32:
            return torch.ops.mkl._mkl_linear(x, self.matrix, weight, bias, self.rows)  # type: ignore[no-any-return]
        return torch.ops.mkldnn._linear_pointwise(x, self.matrix, bias, "none", [], "")  # type: ignore[no-any-return]


def pays(weight: Tensor, precision: torch.dtype, device: torch.device) -> bool:
    """Whether products with a matrix [out, in] gain from packing on this machine."""
    if precision == torch.float32:
        available = torch._C.has_mkl and hasattr(torch.ops.mkl, "_mkl_linear")
    else:
        available = precision == torch.bfloat16 and onednn_takes_float_bias()
    return device.type == "cpu" and available and weight.numel() >= LEAST_SIZE


def packed(weight: Tensor, rows: int) -> Packed | None:
    """A matrix packed for products with `rows` rows; none where that would change their bits, or it has no numbers."""
    if weight.is_meta:
        return None
    if weight.dtype == torch.float32:
        made = Packed(torch.ops.mkl._mkl_reorder_linear_weight(weight, rows), rows)
    else:
        made = Packed(torch.ops.mkldnn._reorder_linear_weight(weight, ANY_ROWS), 0)
    key = (weight.dtype, tuple(weight.shape), rows, torch.get_num_threads())
    if key not in _proven:
        _proven[key] = _same_bits(weight, made, rows)
    return made if _proven[key] else None


_proven: dict[tuple[object, ...], bool] = {}


def _same_bits(weight: Tensor, made: Packed, rows: int) -> bool:
    """Whether packed and plain products agree to the bit on one batch of numbers, with a bias and without."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, weight.shape[1], generator=generator).to(weight.dtype)
    bias = torch.randn(weight.shape[0], generator=generator)
    for b in (bias, None):
        if weight.dtype == torch.float32 or b is None:
            plain = F.linear(x, weight, b)
        else:
            plain = torch.ops.mkldnn._linear_pointwise(x, weight, b, "none", [], "")
        if not torch.equal(made.product(x, weight, b), plain):
            return False
    return True


def onednn_takes_float_bias() -> bool:
    """Whether oneDNN adds a float32 bias to a bfloat16 product before rounding; checked once, by its result."""
    global _takes_float_bias
    if _takes_float_bias is None:
        with with_numbers():
            _takes_float_bias = _adds_before_rounding()
    return _takes_float_bias


def _adds_before_rounding() -> bool:
    x, w = torch.eye(4, 32, dtype=torch.bfloat16), torch.full((3, 32), 0.5, dtype=torch.bfloat16)
    bias = torch.tensor([1.0009765625, 0.0, -0.4990234375])  # the last survives only if it is not rounded first
    try:
        out = torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "").float()
    except (RuntimeError, AttributeError):
        return False
    return bool(torch.equal(out, (0.5 + bias).bfloat16().float().expand(4, 3)))


_takes_float_bias: bool | None = None
