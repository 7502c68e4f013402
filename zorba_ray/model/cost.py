"""What a forward costs: floating-point operations of each stage at a given batch shape (a multiply-add counts two)."""

from __future__ import annotations

from zorba_ray.model.lowbits import product_weights
from zorba_ray.model.model import BlockModel


def stage_flops(model: BlockModel, examples: int, tokens: int) -> list[float]:
    """FLOPs of [stem, layers …, head] for `examples` of `tokens` each: matrix products and attention scores.

    The stem looks rows up and costs none; the head answers once per example.
    """
    matrices = product_weights(model.module)
    layers = []
    for layer in model.parts.layers:
        weights = sum(p.numel() for p in layer.parameters() if id(p) in matrices)
        layers.append(float(2 * weights * examples * tokens + 4 * examples * tokens**2 * model.hidden_size))
    labels = max(1, model.head.spec.labels)
    return [0.0, *layers, float(2 * examples * labels * model.hidden_size)]
