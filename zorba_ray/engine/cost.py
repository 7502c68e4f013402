"""What a forward costs: floating-point operations of each stage at a given batch shape (a multiply-add counts two).

Counted by `torch.utils.flop_counter` on forwards with fake tensors, so whatever a stage is made of (projections around
the embeddings, a pooler, adapters) is in it. The counter sees matrix products and attention, nothing elementwise, no
norms, no look-ups; attention counts both products in full, also where a causal mask leaves half of them out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from zorba_ray.model.batch import Batch
from zorba_ray.model.hollow import HOLLOW
from zorba_ray.model.linear import Linear
from zorba_ray.model.model import BlockModel

PLAIN = (bool, int, float, str)
NUMBERS = ("layer_idx", "layer_id")  # which of the layers one is, not what it does
LENGTHS = (2, 3, 4)  # tokens at which stages are counted: a stage is a polynomial of degree 2 in them
_counted: dict[Hashable, NDArray[np.float64]] = {}  # in this process, of models alike: it takes longer than a short run


def stage_flops(model: BlockModel, examples: int, tokens: int) -> list[float]:
    """FLOPs of [stem, layers …, head] for `examples` of `tokens` each.

    The head answers once per example, or at every token but the last for language modelling.
    """
    if model.flops is None:
        model.flops = counted_once(model, "forward", lambda length: np.array(count_stages(model, length)))
    return [float(examples * value) for value in at_length(model.flops, tokens)]


def counted_once(
    model: BlockModel, what: Hashable, count: Callable[[int], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The polynomial of what is counted at `LENGTHS`; of a model like one that was counted before, that one's."""
    spec = model.spec
    away = tuple(block.offloaded for block in model.blocks)
    key = what, kind_of(model.module), repr(spec.transformers_config), spec.attention, spec.head, model.precision, away
    if key not in _counted:
        _counted[key] = polynomial([count(length) for length in LENGTHS])
    return _counted[key]


def polynomial(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """[3, n]: of tokens², tokens and 1, through what was found at `LENGTHS`, [n] each. Exact for integers."""
    two, three, four = (np.asarray(value, dtype=np.float64) for value in values)
    square = (four - 2 * three + two) / 2
    linear = three - two - 5 * square
    return np.stack([square, linear, two - 2 * linear - 4 * square])


def at_length(coefficients: NDArray[np.float64], tokens: int) -> NDArray[np.float64]:
    return np.asarray(np.array([tokens**2, tokens, 1], dtype=np.float64) @ coefficients)


def count_stages(model: BlockModel, tokens: int) -> list[float]:
    """FLOPs of every stage for one example, counted on a forward that computes nothing; of layers alike, on one."""
    batch = blank_batch(model, 1, tokens)
    kept: dict[str, Any] = {}

    def stem() -> None:
        kept["hidden"], kept["context"] = model.stem(batch)

    def layer(index: int) -> None:
        kept["hidden"] = model.layer(index, kept["hidden"], kept["context"])

    of_kind: dict[Hashable, float] = {}

    def of_layer(index: int) -> float:
        kind = kind_of(model.parts.layers[index])
        if kind not in of_kind:
            of_kind[kind] = counted(lambda: layer(index))
        return of_kind[kind]

    away = [block for block in model.blocks if block.offloaded]
    for block in away:  # let them be seen on the device, where a visit would put them
        block.point(model.get_scratch(block).show(block))
    try:
        with HOLLOW, torch.no_grad():
            counts = [counted(stem)]
            counts += [of_layer(index) for index in range(len(model.parts.layers))]
            counts.append(counted(lambda: model.head.answer(kept["hidden"], batch)))
    finally:
        for block in away:
            block.point(block.base)
    return counts


def kind_of(layer: torch.nn.Module) -> Hashable:
    """Equal for layers that do the same operations on the same shapes: their modules, what these say of themselves,
    the shapes of their parameters, and where a weight lies that is not in them."""
    return tuple(
        (
            name, type(module),
            tuple((key, value) for key, value in vars(module).items() if type(value) in PLAIN and key not in NUMBERS),
            tuple((key, p.shape, p.dtype) for key, p in module.named_parameters(recurse=False)),
            (type(module.stored), module.stored.bytes) if isinstance(module, Linear) and module.stored else None,
        )
        for name, module in layer.named_modules()
    )  # fmt: skip


def blank_batch(model: BlockModel, examples: int, tokens: int, device: str | None = None) -> Batch:
    """A batch of a given shape, as the task asks it, of no meaning; on the model's device if none is given."""
    with torch.device(device or model.device):
        ids = torch.zeros((examples, tokens), dtype=torch.int64)
        rows = torch.arange(examples)
        cols = torch.full_like(rows, tokens - 1)
        if model.head.spec.kind == "language":
            rows = rows.repeat_interleave(tokens - 1)
            cols = torch.arange(tokens - 1).repeat(examples)
        return Batch(ids, torch.ones_like(ids), rows, cols, torch.zeros_like(rows))


def counted(run: Callable[[], Any]) -> float:
    """FLOPs of the matrix products and attentions during `run`, a backward included if it runs one."""
    with FlopCounterMode(display=False, custom_mapping=MORE) as counter:
        run()
    return float(counter.get_total_flops())


def _cpu_attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _cpu_attention_backward(
    gradient: Any, query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **named: Any
) -> int:
    """Scores again, then the gradients of scores, values, queries and keys: five products for the forward's two."""
    return int(sdpa_flop_count(query, key, value)) * 5 // 2  # type: ignore[no-untyped-call]


def _onednn_linear(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    return int(2 * np.prod(x) * weight[0])


# What PyTorch's counter does not know: the CPU's fused attention, and its product with a bias of more bits.
MORE: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward,
    torch.ops.mkldnn._linear_pointwise: _onednn_linear,
}
