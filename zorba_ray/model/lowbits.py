"""Products in bfloat16 or float16, everything else in float32.

A perturbation of 1e-3 vanishes in a bfloat16 weight near 1, so only the matrices of linear and embedding modules are
evaluated in few bits. Biases are added in float32 before the product is rounded where the backend can (oneDNN), after
it elsewhere; what leaves a module is float32 again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOW = (torch.bfloat16, torch.float16)


def is_conv1d(module: nn.Module) -> bool:
    """GPT-2's linear layer, whose weight is stored [in, out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def is_product(module: nn.Module) -> bool:
    """Modules whose `weight` may be evaluated in few bits."""
    if isinstance(module, nn.Linear):
        return type(module).forward is nn.Linear.forward
    return isinstance(module, nn.Embedding) or is_conv1d(module)


def product_weights(module: nn.Module) -> set[int]:
    """Identities of the parameters that are used in products only, in a whole model."""
    products: set[int] = set()
    others: set[int] = set()
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            is_matrix = name == "weight" and parameter.dim() == 2 and is_product(child)
            (products if is_matrix else others).add(id(parameter))
    return products - others


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b in the weight's precision, float32 out; plain `F.linear` for float32 weights. weight [out, in]."""
    if weight.dtype not in LOW:
        return F.linear(x, weight, bias)
    low = x.to(weight.dtype)
    if bias is None:
        return F.linear(low, weight).float()
    if _fused_bias(weight):
        return torch.ops.mkldnn._linear_pointwise(low, weight, bias, "none", [], "").float()  # type: ignore[no-any-return]
    return F.linear(low, weight) + bias


def _conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b with weight [in, out]; as GPT-2's own for float32."""
    shape = (*x.shape[:-1], weight.shape[1])
    flat = x.reshape(-1, x.shape[-1])
    if weight.dtype not in LOW:
        return torch.addmm(bias, flat, weight).view(shape)
    return (torch.mm(flat.to(weight.dtype), weight) + bias).view(shape)


def _fused_bias(weight: Tensor) -> bool:
    """oneDNN takes a float32 bias beside bfloat16 matrices; checked once, as the operator is not a public one."""
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _onednn_takes_float_bias()


def _onednn_takes_float_bias() -> bool:
    global _takes_float_bias
    if _takes_float_bias is None:
        x, w = torch.eye(4, 32, dtype=torch.bfloat16), torch.full((3, 32), 0.5, dtype=torch.bfloat16)
        bias = torch.tensor([1.0009765625, 0.0, -0.4990234375])  # 0.5 + b survives only if b was not rounded first
        try:
            out = torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "").float()
        except (RuntimeError, AttributeError):
            _takes_float_bias = False
        else:
            _takes_float_bias = bool(torch.equal(out, (0.5 + bias).bfloat16().float().expand(4, 3)))
    return _takes_float_bias


_takes_float_bias: bool | None = None


def _linear_forward(module: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias)


def _conv1d_forward(module: nn.Module, x: Tensor) -> Tensor:
    return _conv1d(x, module.weight, module.bias)  # type: ignore[arg-type]


def _embedding_forward(module: nn.Embedding, own: Any, *args: Any, **kwargs: Any) -> Tensor:
    return own(*args, **kwargs).float()  # type: ignore[no-any-return]


def accept_few_bits(modules: Iterable[nn.Module]) -> None:
    """Let linear, Conv1D and embedding modules take weights of few bits and answer in float32."""
    for module in modules:
        if not is_product(module):
            continue
        if isinstance(module, nn.Linear):
            module.__dict__["forward"] = partial(_linear_forward, module)
        elif isinstance(module, nn.Embedding):
            module.__dict__["forward"] = partial(_embedding_forward, module, module.forward)
        else:
            module.__dict__["forward"] = partial(_conv1d_forward, module)
