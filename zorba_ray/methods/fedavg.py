"""FedAvg: clients train their active blocks by SGD or AdamW, send what changed, and the server adds the mean change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.require import at_least, positive, require
from zorba_ray.config.schema import Config
from zorba_ray.messages import MEAN, Report, RoundPlan, TensorStep
from zorba_ray.methods.average import average
from zorba_ray.methods.method import FirstOrder, Row, Update

if TYPE_CHECKING:
    from zorba_ray.model import BlockModel
    from zorba_ray.model.batch import Batch

SLICE = 1 << 20  # numbers that are averaged at once


def train(model: BlockModel, plan: RoundPlan, client: int, row: Row, batches: Iterable[Batch]) -> Update:
    from zorba_ray.methods.training import train_locally

    return train_locally(model, plan, row, batches)


def step(
    plan: RoundPlan, reports: Sequence[Report], active: NDArray[np.bool_], weights: NDArray[np.float64]
) -> TensorStep:
    """`Δ_l = Σ_{n∈A_l} w_n Δ_n,l / Σ_{n∈A_l} w_n`, clients in ascending order; a block nobody has stays.

    With aggregate=clipped, a client's whole change is first scaled down to `clip_norm`.
    """
    scales = {report.client: _scale(plan, report) for report in reports}

    def mean(block: int, members: Sequence[Report]) -> NDArray[np.float32]:
        return averaged([vector_of(report, block) for report in members],
                        [scales[report.client] for report in members],
                        weights[[report.client for report in members]])  # fmt: skip

    return by_block(plan, reports, active.shape[1], mean)


def by_block(
    plan: RoundPlan, reports: Sequence[Report], blocks: int,
    make: Callable[[int, Sequence[Report]], NDArray[np.float32]],
    whole: bool = False, residual: float | None = None,
) -> TensorStep:
    """The step whose vector of block l is `make(l, reports of those who trained l)`."""
    vectors = {}
    for block in range(blocks):
        members = [report for report in reports if report.vectors is not None and report.vectors[block] is not None]
        if members:
            vectors[block] = make(block, members)
    return TensorStep(plan.round, plan.lr, tuple(block in vectors for block in range(blocks)), vectors, whole, residual)


def averaged(
    vectors: Sequence[NDArray[np.float32]], scales: Sequence[float], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Weighted mean of scaled vectors [d], in slices, so that the float64 copies stay small."""
    out = np.empty_like(vectors[0])
    for start in range(0, out.size, SLICE):
        part = np.stack([s * v[start : start + SLICE].astype(np.float64) for v, s in zip(vectors, scales, strict=True)])
        out[start : start + SLICE] = average(MEAN, part, weights)
    return out


def vector_of(report: Report, block: int) -> NDArray[np.float32]:
    assert report.vectors is not None
    vector = report.vectors[block]
    assert vector is not None
    return vector


def _scale(plan: RoundPlan, report: Report) -> float:
    if plan.aggregate.name != "clipped" or report.vectors is None:
        return 1.0
    squares = [float(np.square(v, dtype=np.float64).sum()) for v in report.vectors if v is not None]
    length = float(np.sqrt(sum(squares)))
    return plan.aggregate.clip_norm / length if length > plan.aggregate.clip_norm else 1.0


def check(config: Config) -> list[str]:
    """The keys that all methods with gradients share, under this one's name."""
    options, name = config.options, config.method
    at_least(1, **{f"{name}.steps": options.steps})
    at_least(0, **{f"{name}.epochs": options.epochs, f"{name}.weight_decay": options.weight_decay})
    positive(**{f"{name}.eps": options.eps})
    require(len(options.betas) == 2 and all(0 <= beta < 1 for beta in options.betas), f"{name}.betas", options.betas,
            "two numbers from 0 to below 1")
    require(0 <= options.momentum < 1, f"{name}.momentum", options.momentum, "from 0 to below 1")
    return []


METHOD = FirstOrder(train, step, check=check)
