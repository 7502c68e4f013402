"""What a forward costs: floating-point operations of each stage at a given batch shape (a multiply-add counts two)."""

from __future__ import annotations

from zorba_ray.model.lowbits import product_weights
from zorba_ray.model.model import BlockModel


def stage_flops(model: BlockModel, examples: int, tokens: int) -> list[float]:
    """FLOPs of [stem, layers …, head] for `examples` of `tokens` each: matrix products and attention scores.

    The stem looks rows up and costs none; the head answers once per example, or at every token for language modelling.
    """
    matrices = product_weights(model.module)
    layers = []
    for layer in model.parts.layers:
        weights = sum(p.numel() for p in layer.parameters() if id(p) in matrices)
        layers.append(float(2 * weights * examples * tokens + 4 * examples * tokens**2 * model.hidden_size))
    spec, output = model.head.spec, model.head.output
    answers = examples * (tokens - 1) if spec.kind == "language" else examples
    whole = output is not None and (spec.kind == "language" or spec.loss == "vocabulary")
    logits = int(output.weight.shape[0]) if whole else max(1, spec.labels)  # type: ignore[union-attr, index]
    return [0.0, *layers, float(2 * answers * logits * model.hidden_size)]
