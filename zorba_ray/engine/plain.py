"""One forward, stage after stage, on the weights as they are: the reference of the walk, and differentiable."""

from __future__ import annotations

from torch import Tensor

from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch


def plain_loss(model: BlockModel, batch: Batch) -> Tensor:
    """Mean loss, 0-d float64. Under autograd it has gradients for parameters that ask for them (float32 models)."""
    batch = batch.to(model.device)
    hidden, context = model.stem(batch)
    for index in range(len(model.parts.layers)):
        hidden = model.layer(index, hidden, context)
    return model.head.answer(hidden, batch)[0]
