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

LOW = (torch.bfloat16, torch.float16)
PACKED_ROWS = 512  # rows that oneDNN lays a matrix out for; any number of rows may then be multiplied, to the same bits

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


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, keep: bool = False, packed: Tensor | None = None
) -> Tensor:
    """x Wᵀ + b in the weight's precision; plain `F.linear` for float32 weights. weight [out, in].

    The answer is float32 again, or with `keep` in the weight's precision (the product was rounded to it in any case).
    `packed`: the weight in oneDNN's own layout, where it was made; same bits, sooner.
    """
    if weight.dtype not in LOW:
        return F.linear(x, weight, bias)
    low = x.to(weight.dtype)
    if packed is not None:
        out = torch.ops.mkldnn._linear_pointwise(low, packed, bias, "none", [], "")
    elif bias is None:
        out = F.linear(low, weight)
    elif _fused_bias(weight):
        out = torch.ops.mkldnn._linear_pointwise(low, weight, bias, "none", [], "")
    else:
        out = F.linear(low, weight) + bias
    return out.to(weight.dtype) if keep else out.float()  # type: ignore[no-any-return]


def conv1d(x: Tensor, weight: Tensor, bias: Tensor, keep: bool = False) -> Tensor:
    """x W + b with weight [in, out]; as GPT-2's own for float32."""
    shape = (*x.shape[:-1], weight.shape[1])
    flat = x.reshape(-1, x.shape[-1])
    if weight.dtype not in LOW:
        return torch.addmm(bias, flat, weight).view(shape)
    out = (torch.mm(flat.to(weight.dtype), weight) + bias).view(shape)
    return out.to(weight.dtype) if keep else out


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


def pack(parameters: Iterable[nn.Parameter]) -> None:
    """Lay shown matrices out as oneDNN's products want them: paid once a version, gained with every batch."""
    for parameter in parameters:
        packed = torch.ops.mkldnn._reorder_linear_weight(parameter.data, PACKED_ROWS)
        parameter.packed = packed  # type: ignore[attr-defined]


def unpack(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.packed = None  # type: ignore[attr-defined]


def packable(modules: Iterable[nn.Module], precision: torch.dtype, device: torch.device) -> set[int]:
    """Identities of the matrices that `pack` may lay out: those of linear modules, in bfloat16 on a CPU."""
    if device.type != "cpu" or precision != torch.bfloat16 or not _onednn_takes_float_bias():
        return set()
    return {id(module.weight) for module in modules if isinstance(module, nn.Linear) and is_product(module)}


def _linear_forward(module: nn.Linear, keep: bool, x: Tensor) -> Tensor:
    return linear(x, module.weight, module.bias, keep, getattr(module.weight, "packed", None))


def _conv1d_forward(module: nn.Module, keep: bool, x: Tensor) -> Tensor:
    return conv1d(x, module.weight, module.bias, keep)  # type: ignore[arg-type]


def _embedding_forward(module: nn.Embedding, *args: Any, **kwargs: Any) -> Tensor:
    return type(module).forward(module, *args, **kwargs).float()


def _activation_forward(module: nn.Module, x: Tensor) -> Tensor:
    return type(module).forward(module, x.float())  # type: ignore[no-any-return]


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
