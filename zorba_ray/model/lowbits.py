"""Products in bfloat16 or float16, everything else in float32.

A perturbation of 1e-3 vanishes in a bfloat16 weight near 1, so only the matrices of linear and embedding modules are
evaluated in few bits. Biases are added in float32 before the product is rounded where the backend can (oneDNN), after
it elsewhere. Inside a layer products hand on few bits where the layer bears it (its residual stream stays float32).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zorba_ray.model.frozen import frozen_linear, frozen_of
from zorba_ray.model.packing import onednn_takes_float_bias, packed_of, product
from zorba_ray.model.quantise import matrix_of

LOW = (torch.bfloat16, torch.float16)

# Activations of transformers that compute in float32 inside and round once; others are given float32.
ROUNDS_ONCE = {"GELUActivation", "SiLUActivation"}


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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, keep: bool = False) -> Tensor:
    """x Wᵀ + b in the weight's precision; plain `F.linear` for float32 weights. weight [out, in].

    The answer is float32 again, or with `keep` in the weight's precision (the product was rounded to it in any case).
    """
    few = frozen_of(weight)
    if few is not None:
        if torch.is_grad_enabled() and x.requires_grad:
            return frozen_linear(x, few, bias)
        weight = matrix_of(few, weight.dtype)
    packed = packed_of(weight, x)
    if weight.dtype not in LOW:
        return F.linear(x, weight, bias) if packed is None else product(x, weight, packed, bias)
    low = x.to(weight.dtype)
    if packed is not None:
        out = product(low, weight, packed, bias)
    elif bias is None:
        out = F.linear(low, weight)
    elif _fused_bias(weight):
        out = torch.ops.mkldnn._linear_pointwise(low, weight, bias, "none", [], "")
    else:
        out = F.linear(low, weight) + bias
    return out.to(weight.dtype) if keep else out.float()


def conv1d(x: Tensor, weight: Tensor, bias: Tensor, keep: bool = False) -> Tensor:
    """x W + b with weight [in, out]; as GPT-2's own for float32."""
    few = frozen_of(weight)
    if few is not None:
        if torch.is_grad_enabled() and x.requires_grad:
            return frozen_linear(x, few, bias, transposed=True)
        weight = matrix_of(few, weight.dtype)
    shape = (*x.shape[:-1], weight.shape[1])
    flat = x.reshape(-1, x.shape[-1])
    if weight.dtype not in LOW:
        return torch.addmm(bias, flat, weight).view(shape)
    out = (torch.mm(flat.to(weight.dtype), weight) + bias).view(shape)
    return out.to(weight.dtype) if keep else out


def _fused_bias(weight: Tensor) -> bool:
    """oneDNN takes a float32 bias beside bfloat16 matrices; checked once, as the operator is not a public one."""
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and onednn_takes_float_bias()


def _linear_forward(module: nn.Linear, keep: bool, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias, keep)


def _conv1d_forward(module: nn.Module, keep: bool, x: Tensor) -> Tensor:
    return conv1d(x, module.weight, module.bias, keep)  # type: ignore[arg-type]


def _embedding_forward(module: nn.Embedding, *args: Any, **kwargs: Any) -> Tensor:
    return type(module).forward(module, *args, **kwargs).float()


def _activation_forward(module: nn.Module, x: Tensor) -> Tensor:
    return type(module).forward(module, x.float())  # type: ignore[no-any-return]


def accept_own(modules: Iterable[nn.Module]) -> None:
    """Let linear and Conv1D modules with float32 weights use packed or quantised matrices where they are there."""
    for module in modules:
        forward: Any = _linear_forward if isinstance(module, nn.Linear) else _conv1d_forward
        module.__dict__["forward"] = partial(forward, module, False)


def accept_few_bits(modules: Iterable[nn.Module], keep: bool) -> None:
    """Let linear, Conv1D and embedding modules take weights of few bits. Embeddings answer in float32, the others too
    unless `keep`.
    """
    for module in modules:
        if not is_product(module):
            name = type(module).__name__
            if name.endswith("Activation") and name not in ROUNDS_ONCE and not list(module.parameters()):
                module.__dict__["forward"] = partial(_activation_forward, module)
            continue
        if isinstance(module, nn.Linear):
            module.__dict__["forward"] = partial(_linear_forward, module, keep)
        elif isinstance(module, nn.Embedding):
            module.__dict__["forward"] = partial(_embedding_forward, module)
        else:
            module.__dict__["forward"] = partial(_conv1d_forward, module, keep)
