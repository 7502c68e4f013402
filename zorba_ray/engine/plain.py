"""One forward, stage after stage, on the weights as they are: the reference of the walk, and differentiable."""

from __future__ import annotations

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch


def plain_loss(model: BlockModel, batch: Batch, checkpointing: bool = False) -> Tensor:
    """Mean loss, 0-d float64. Under autograd it has gradients for parameters that ask for them; with `checkpointing` a
    layer keeps only its input for the backward, which runs the layer again."""
    batch = batch.to(model.device)
    hidden, context = model.stem(batch)
    for index in range(len(model.parts.layers)):
        if checkpointing:
            hidden = checkpoint(model.layer, index, hidden, context, use_reentrant=False, preserve_rng_state=False)
        else:
            hidden = model.layer(index, hidden, context)
    return model.head.answer(hidden, batch)[0]
