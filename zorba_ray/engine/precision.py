"""How much a low precision of evaluation harms the scalars: measured, not assumed.

Rounding adds noise to a scalar, beside that of drawing a mini-batch. How much, depends on the model, the batch and μ;
and what matters is not the agreement with float32 but the share of the variance that it adds to what is there anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.model import BlockModel, build_model, export_weights
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Direction, Kind

ENOUGH = 0.98  # correlation below which a run is warned about where mini-batches have no noise to compare with

Scalars = np.ndarray[tuple[int, int], np.dtype[np.float64]]  # [batches, directions]


@dataclass(frozen=True)
class Rounding:
    """Two-sided scalars in few bits against those in float32, `count` of each."""

    correlation: float
    added: float  # variance that rounding adds to a scalar
    sampling: float  # variance that it has over mini-batches of one client; 0: none was seen
    count: int

    @property
    def share(self) -> float:
        """Of the mini-batches' variance, what rounding adds."""
        return self.added / self.sampling if self.sampling > 0 else math.inf

    def bears(self, most: float) -> bool:
        """Whether the scalars are as good as float32's: at most so large a share is added."""
        return self.share <= most or (self.sampling == 0 and self.correlation >= ENOUGH)

    def told(self, precision: str) -> str:
        beside = (
            f"rounding adds {self.share:.2g} of the variance that mini-batches give them" if self.sampling > 0 else
            "mini-batches are the clients' whole data and give them no variance beside which rounding could be small"
        )  # fmt: skip
        agree = f"scalars in {precision} correlate {self.correlation:.3f} with those in float32 before round 0"
        return f"{agree}, and {beside} ({self.count} scalars)"


def rounding(
    low: BlockModel, exact: BlockModel, clients: Sequence[Sequence[Batch]], mu: float, kind: Kind, seed: int,
    directions: int, hidden_memory: int = 1 << 30,
) -> Rounding:
    """Of the same model in two precisions, on mini-batches of some clients: two or more of each, or one where it is the
    client's whole data. All blocks are active."""
    batches = [batch for own in clients for batch in own]
    few, whole = (two_sided_scalars(m, batches, mu, kind, seed, directions, hidden_memory) for m in (low, exact))
    ends = np.cumsum([len(own) for own in clients])
    spreads = [part.var(axis=0, ddof=1) for part in np.split(whole, ends[:-1]) if len(part) > 1]
    return Rounding(
        correlation=float(np.corrcoef(few.ravel(), whole.ravel())[0, 1]),
        added=float(np.square(few - whole).mean()),
        sampling=float(np.mean(spreads)) if spreads else 0.0,
        count=whole.size,
    )


def in_precision(model: BlockModel, precision: str) -> BlockModel:
    """The same model, evaluated in another precision; it is built beside the given one."""
    spec = replace(model.spec, config=replace(model.spec.config, precision=precision))
    return build_model(spec, export_weights(model), str(model.device))


def two_sided_scalars(
    model: BlockModel, batches: Sequence[Batch], mu: float, kind: Kind, seed: int, directions: int, hidden_memory: int
) -> Scalars:
    """ρ = (L₊ − L₋)/2μ with every block active."""
    columns = len(model.blocks)
    paths = tuple(
        (((Direction(seed, 0, p), sign * mu),),) * columns for p in range(directions) for sign in (1.0, -1.0)
    )
    outcomes = evaluate(model, [Work(batch, paths) for batch in batches], kind, hidden_memory)
    losses = np.stack([outcome.losses.reshape(directions, 2) for outcome in outcomes])
    return (losses[..., 0] - losses[..., 1]) / (2 * mu)


def multiplies_bfloat16(device: str) -> bool:
    """Whether the hardware does: without that, bfloat16 costs time instead of saving it."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
