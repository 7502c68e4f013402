"""Local training of one client with gradients: the first-order half of a round, and the same for all such methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from zorba_ray.engine.backward import backward_flops, gradients, show_rounded
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

    The optimiser's state begins anew in every round: nobody keeps it. It moves float32 numbers, whatever the precision
    of the forward and the backward, which see them rounded. Without an active block there is nothing to train and only
    the loss of the first batch is taken.
    """
    active = [block for block in model.blocks if row[block.index]]
    kept = [block.vector.cpu().clone() for block in active]
    again = plan.options.checkpointing
    losses: list[float] = []
    shapes: list[tuple[int, int]] = []
    optimizer = None
    try:
        with gradients(model, row):
            masters = masters_of(model, active)
            optimizer = make_optimizer(active, masters, plan.options, plan.lr) if active else None
            for batch in batches:
                loss = plain_loss(model, batch, again)
                losses.append(float(loss.detach()))
                shapes.append((int(batch.ids.shape[0]), int(batch.ids.shape[1])))
                if optimizer is None:
                    break
                loss.backward()  # type: ignore[no-untyped-call]
                hand_over(active, masters)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)  # now, so that the next forward has their room
                show_rounded(model, active)
        ends = [block.vector.cpu().clone() for block in active]
    finally:
        for block, copy in zip(active, kept, strict=True):
            block.vector.copy_(copy)
        del optimizer  # its state, before a backward is counted that has not been yet
    forward = sum(sum(stage_flops(model, *shape)) for shape in shapes)
    backward = sum(backward_flops(model, row, *shape, again) for shape in shapes)
    sent = {b.index: (end if whole else end - copy).numpy() for b, end, copy in zip(active, ends, kept, strict=True)}
    vectors = tuple(sent.get(block.index) for block in model.blocks)
    layout = tuple(layout_of(block) for block in model.blocks) if whole else ()
    return Update(vectors, float(np.mean(losses)), len(losses) * len(model.parts.layers), forward, backward, layout)


def masters_of(model: BlockModel, blocks: Sequence[Block]) -> list[list[nn.Parameter]]:
    """What the optimiser moves, by block: views of its vector, which in float32 are what the forward sees."""
    if model.precision == torch.float32:
        return [block.parameters for block in blocks]
    return [[nn.Parameter(view) for view in block.base] for block in blocks]


def hand_over(blocks: Sequence[Block], masters: Sequence[Sequence[nn.Parameter]]) -> None:
    """Gradients of what the forward saw, as gradients of the masters."""
    for block, own in zip(blocks, masters, strict=True):
        for parameter, master in zip(block.parameters, own, strict=True):
            if master is not parameter and parameter.grad is not None:
                master.grad, parameter.grad = parameter.grad.float(), None


def make_optimizer(
    blocks: Sequence[Block], masters: Sequence[Sequence[nn.Parameter]], local: LocalOptions, lr: float
) -> torch.optim.Optimizer:
    """PyTorch's own, one parameter after the other; weight decay on matrices, not on norms and biases."""
    groups: list[dict[str, object]] = [{"params": [], "weight_decay": local.weight_decay},
                                       {"params": [], "weight_decay": 0.0}]  # fmt: skip
    for block, own in zip(blocks, masters, strict=True):
        for parameter, start in zip(own, block.starts, strict=True):
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
