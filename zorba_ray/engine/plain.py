"""One forward, stage after stage, on the weights as they are: the reference of the walk, and differentiable."""

from __future__ import annotations

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch
from zorba_ray.model.forward import Context


def plain_loss(model: BlockModel, batch: Batch, checkpointing: bool = False) -> Tensor:
    """Mean loss, 0-d float64. Under autograd it has gradients for parameters that ask for them; with `checkpointing` a
    layer keeps only its input for the backward, which runs the layer again."""
    batch = batch.to(model.device)
    hidden, context = model.stem(batch)
    for index in range(len(model.parts.layers)):
        hidden = layer(model, index, hidden, context, checkpointing)
    return model.head.answer(hidden, batch)[0]


def layer(model: BlockModel, index: int, hidden: Tensor, context: Context, checkpointing: bool) -> Tensor:
    """One layer of it."""
    if not checkpointing:
        return model.layer(index, hidden, context)
    out: Tensor = checkpoint(model.layer, index, hidden, context, use_reentrant=False, preserve_rng_state=False)
    return out
