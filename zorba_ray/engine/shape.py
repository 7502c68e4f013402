"""What the allocation must know of a model beside its memory: names, sizes and FLOPs, for one client's mini-batch."""

from __future__ import annotations

from zorba_ray.engine.cost import stage_flops
from zorba_ray.engine.memory import ModelShape
from zorba_ray.model.model import BlockModel


def model_shape(model: BlockModel, examples: int, tokens: int) -> ModelShape:
    """The shape of a model for mini-batches of `examples` with `tokens` each."""
    columns = model.columns
    first = next(i for i, column in enumerate(columns) if column is not None)
    per_block = [0.0] * len(model.blocks)
    before = after = 0.0
    for stage, (column, flops) in enumerate(zip(columns, stage_flops(model, examples, tokens), strict=True)):
        if column is not None:
            per_block[column] += flops
        elif stage < first:
            before += flops
        else:
            after += flops
    return ModelShape(
        names=tuple(block.name for block in model.blocks),
        trainable=tuple(block.size for block in model.blocks),
        flops=tuple(per_block),
        flops_before=before,
        flops_after=after,
    )
