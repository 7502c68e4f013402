"""Local training of one client with gradients: the first-order half of a round, and the same for all such methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from zorba_ray.engine.backward import backward_flops, gradients
from zorba_ray.engine.cost import stage_flops
from zorba_ray.engine.plain import plain_loss
from zorba_ray.messages import RoundPlan, VectorLayout
from zorba_ray.methods.method import LocalOptions, Row, Update
from zorba_ray.model import Block, BlockModel
from zorba_ray.model.batch import Batch


def train_locally(
    model: BlockModel, plan: RoundPlan, row: Row, batches: Iterable[Batch], whole: bool = False
) -> Update:
    """One step on each batch, from the weights as they are; answers with the change of each active block's vector (with
    `whole` the vector itself), and leaves the model, to the bit, as it was.

    The optimiser's state begins anew in every round: nobody keeps it. Without an active block there is nothing to train
    and only the loss of the first batch is taken.
    """
    active = [block for block in model.blocks if row[block.index]]
    kept = [block.vector.cpu().clone() for block in active]
    losses, evaluations = [], 0
    forward = backward = 0.0
    try:
        with gradients(model, row):
            optimizer = make_optimizer(active, plan.options, plan.lr) if active else None
            for batch in batches:
                examples, tokens = batch.ids.shape
                loss = plain_loss(model, batch)
                losses.append(float(loss.detach()))
                evaluations += len(model.parts.layers)
                forward += sum(stage_flops(model, examples, tokens))
                if optimizer is None:
                    break
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                backward += backward_flops(model, row, examples, tokens)
        ends = [block.vector.cpu().clone() for block in active]
    finally:
        for block, copy in zip(active, kept, strict=True):
            block.vector.copy_(copy)
    sent = {b.index: (end if whole else end - copy).numpy() for b, end, copy in zip(active, ends, kept, strict=True)}
    vectors = tuple(sent.get(block.index) for block in model.blocks)
    layout = tuple(layout_of(block) for block in model.blocks) if whole else ()
    return Update(vectors, float(np.mean(losses)), evaluations, forward, backward, layout)


def make_optimizer(blocks: Sequence[Block], local: LocalOptions, lr: float) -> torch.optim.Optimizer:
    """PyTorch's own, one parameter after the other; weight decay on matrices, not on norms and biases."""
    groups: list[dict[str, object]] = [{"params": [], "weight_decay": local.weight_decay},
                                       {"params": [], "weight_decay": 0.0}]  # fmt: skip
    for block in blocks:
        for parameter, start in zip(block.parameters, block.starts, strict=True):
            group = groups[0] if start < block.matrix_size else groups[1]
            group["params"].append(parameter)  # type: ignore[attr-defined]
    groups = [group for group in groups if group["params"]]
    if local.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=local.momentum, foreach=False)
    betas = (local.betas[0], local.betas[1])
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=local.eps, foreach=False)


def layout_of(block: Block) -> VectorLayout:
    """Names and shapes of the block's parameters, in the order of its vector."""
    return tuple((name, tuple(view.shape)) for name, view in zip(block.names, block.base, strict=True))
