"""Linear layers of ours: a weight that may lie in many ways, and one way of multiplying with it.

A transformers model's `nn.Linear` and `Conv1D` modules become `Linear` where they stand, under the same names and with
the same parameters. The weight is the parameter itself (float32, or the few bits that a version was rounded to), or is
*stored* elsewhere (`Storage`) and fetched for as long as a product takes, in a backward again; the parameter then has
no numbers (one NaN, seen everywhere), so that whatever would read it by another way shows at once.

A perturbation of 1e-3 vanishes in a bfloat16 weight near 1, so only the matrices of linear and embedding modules are
evaluated in few bits: norms, biases and the residual stream stay float32. Biases are added in float32 before a product
is rounded where the backend can (oneDNN), after it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zorba_ray.model.packing import Packed, onednn_takes_float_bias

LOW = (torch.bfloat16, torch.float16)

# Activations of transformers that compute in float32 inside and round once; others are given float32.
ROUNDS_ONCE = {"GELUActivation", "SiLUActivation"}


class Storage(Protocol):
    """Where the numbers of a matrix lie that nobody trains."""

    @property
    def bytes(self) -> int:
        """What they take on the device."""

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The numbers on the device, of their own."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What lies on the device."""

    def to(self, device: torch.device) -> Storage: ...


@dataclass(frozen=True, eq=False)
class Hosted:
    """A matrix in host memory that comes to the device for as long as a product takes."""

    numbers: Tensor  # on the CPU, pinned where the device is a GPU
    device: torch.device

    @property
    def bytes(self) -> int:
        return 0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return ()

    def matrix(self, dtype: torch.dtype) -> Tensor:
        return self.numbers.to(self.device, non_blocking=True).to(dtype)

    def to(self, device: torch.device) -> Hosted:
        pinned = device.type == "cuda" and not self.numbers.is_pinned()
        return Hosted(self.numbers.pin_memory() if pinned else self.numbers, device)


class Linear(nn.Linear):
    """x Wᵀ + b, with a `transposed` weight [in, out] x W + b; answers in float32, or rounded as the product was."""

    transposed: bool
    rounded: bool  # hand on the weight's few bits
    stored: Storage | None
    packed: Packed | None  # the weight in the library's own layout, while many batches meet one version

    def forward(self, x: Tensor) -> Tensor:
        weight, packed = self.weight, self.packed
        if self.stored is not None:
            if torch.is_grad_enabled() and x.requires_grad:
                out = _Fetched.apply(x, self.stored, self.bias, self.transposed, weight.dtype)  # type: ignore[no-untyped-call]
                return out.to(weight.dtype) if self.rounded else out.float()  # type: ignore[no-any-return]
            weight = self.stored.matrix(weight.dtype)
        if packed is not None and packed.fits(x):
            out = packed.product(x.to(weight.dtype), weight, self.bias)
        else:
            out = product(x, weight, self.bias, self.transposed)
        return out.to(weight.dtype) if self.rounded else out.float()

    def store(self, storage: Storage, precision: torch.dtype) -> None:
        """Leave the weight's numbers to a storage; products see them in `precision`."""
        self.stored = storage
        hollow = torch.full((), torch.nan, dtype=precision, device=self.weight.device)
        self.weight.data = hollow.expand(self.weight.shape)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool = False) -> Tensor:
    """x Wᵀ + b (x W + b) in the weight's precision; a bias may leave the answer of few bits in float32."""
    low = weight.dtype in LOW
    x = x.to(weight.dtype) if low else x
    if transposed:
        assert bias is not None
        flat = x.reshape(-1, x.shape[-1])
        out = torch.mm(flat, weight) + bias if low else torch.addmm(bias, flat, weight)
        return out.view(*x.shape[:-1], weight.shape[1])
    if bias is None or not low:
        return F.linear(x, weight, bias)
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and onednn_takes_float_bias()
    if on_cpu and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)):  # it has no backward
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight) + bias


class _Fetched(torch.autograd.Function):
    """A product under autograd whose matrix does not wait for the backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, stored: Storage, bias: Tensor | None, transposed: bool, precision: torch.dtype
    ) -> Tensor:
        ctx.stored, ctx.transposed, ctx.precision, ctx.given = stored, transposed, precision, x.dtype
        return product(x, stored.matrix(precision), bias, transposed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        weight = ctx.stored.matrix(ctx.precision)
        back = gradient.to(ctx.precision) @ (weight.t() if ctx.transposed else weight)
        beside = gradient.float().flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return back.to(ctx.given), None, beside, None, None


def host_matrices(layers: Iterable[nn.Module], wanted: set[int], device: torch.device) -> None:
    """Leave the matrices of these identities to host memory, each once."""
    hosted: dict[int, Hosted] = {}
    for linear in linears(layers):
        key = id(linear.weight)
        if key in wanted and linear.stored is None:
            numbers = linear.weight.data
            if key not in hosted:
                away = torch.empty((), dtype=numbers.dtype).expand(numbers.shape) if numbers.is_meta else numbers.cpu()
                hosted[key] = Hosted(away, torch.device("cpu")).to(device)
            linear.store(hosted[key], numbers.dtype)


def is_conv1d(module: nn.Module) -> bool:
    """GPT-2's linear layer, whose weight is stored [in, out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def adopt(module: nn.Module) -> None:
    """Make the linear layers of a model ours, where they stand. They compute what they did, to the bit."""
    for child in module.modules():
        transposed = is_conv1d(child)
        if transposed or (isinstance(child, nn.Linear) and type(child).forward is nn.Linear.forward):
            child.__class__ = Linear
            child.transposed, child.rounded, child.stored, child.packed = transposed, False, None, None  # type: ignore[assignment]
            if transposed:
                child.in_features, child.out_features = child.weight.shape  # type: ignore[misc, assignment]


def linears(modules: Iterable[nn.Module]) -> Iterator[Linear]:
    """The linear layers in some modules."""
    return (child for module in modules for child in module.modules() if isinstance(child, Linear))


def matrices_of(module: nn.Module) -> set[int]:
    """Identities of the parameters that are used in products and look-ups only, in a whole model."""
    products: set[int] = set()
    others: set[int] = set()
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            is_matrix = name == "weight" and parameter.dim() == 2 and isinstance(child, Linear | nn.Embedding)
            (products if is_matrix else others).add(id(parameter))
    return products - others


def numbers_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by name, once, fetched from its storage if need be."""
    stored = {id(child.weight): child.stored for child in linears([module]) if child.stored is not None}
    for name, parameter in module.named_parameters():
        storage = stored.get(id(parameter))
        yield name, parameter.detach() if storage is None else storage.matrix(torch.float32)


def accept_few_bits(module: nn.Module) -> None:
    """Let what stands between products of few bits have float32: embeddings answer in it, activations are given it."""
    for child in module.modules():
        name = type(child).__name__
        if isinstance(child, nn.Embedding):
            child.register_forward_hook(_answer_in_float)
        elif name.endswith("Activation") and name not in ROUNDS_ONCE and not list(child.parameters()):
            child.register_forward_pre_hook(_take_float)


def _answer_in_float(_: nn.Module, args: Any, out: Tensor) -> Tensor:
    return out.float()


def _take_float(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.float() if isinstance(each, Tensor) else each for each in args)
