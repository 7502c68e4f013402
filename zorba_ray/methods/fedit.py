"""FedIT: LoRA adapters trained by AdamW. The adapter's two factors are averaged one by one, which is not the average of
what they add to the weights; `fedit.aggregate: exact` averages that instead and finds the best factors of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.require import require
from zorba_ray.config.schema import Config, key
from zorba_ray.messages import Report, RoundPlan, TensorStep, VectorLayout
from zorba_ray.methods import fedavg
from zorba_ray.methods.method import FirstOrder, LocalOptions, Row, Update

if TYPE_CHECKING:
    from zorba_ray.model import BlockModel
    from zorba_ray.model.batch import Batch

Matrix = NDArray[np.float64]


@dataclass
class Options(LocalOptions):
    """The keys `fedit.*`."""

    aggregate: str = key(
        "separate", "average the factors of the adapters one by one, or their product, brought back to their rank",
        ("separate", "exact"),
    )


def train(model: BlockModel, plan: RoundPlan, client: int, row: Row, batches: Iterable[Batch]) -> Update:
    from zorba_ray.methods.training import train_locally

    return train_locally(model, plan, row, batches, whole=plan.options.aggregate == "exact")


def step(
    plan: RoundPlan, reports: Sequence[Report], active: NDArray[np.bool_], weights: NDArray[np.float64]
) -> TensorStep:
    """separate: mean(B) and mean(A), as FedAvg. exact: the rank-r factors nearest to `Σ w_n B_n A_n / Σ w_n`, by SVD;
    what they leave out is the step's residual, a share of the Frobenius norm over all adapters."""
    if plan.options.aggregate != "exact":
        return fedavg.step(plan, reports, active, weights)
    left, all = [0.0], [0.0]

    def project(block: int, members: Sequence[Report]) -> NDArray[np.float32]:
        shares = weights[[report.client for report in members]]
        vectors = [fedavg.vector_of(report, block) for report in members]
        out = fedavg.averaged(vectors, [1.0] * len(vectors), shares)
        place = places(members[0].layout[block])
        for name, (start, shape) in place.items():
            if ".lora_A." not in name:
                continue
            b_start, b_shape = place[name.replace(".lora_A.", ".lora_B.")]
            a = [vector[start : start + shape[0] * shape[1]].reshape(shape) for vector in vectors]
            b = [vector[b_start : b_start + b_shape[0] * b_shape[1]].reshape(b_shape) for vector in vectors]
            new_b, new_a, lost, whole = best_factors(b, a, shares)
            out[start : start + new_a.size] = new_a.reshape(-1)
            out[b_start : b_start + new_b.size] = new_b.reshape(-1)
            left[0], all[0] = left[0] + lost, all[0] + whole
        return out

    made = fedavg.by_block(plan, reports, active.shape[1], project, whole=True)
    share = float(np.sqrt(left[0] / all[0])) if all[0] > 0 else 0.0
    return TensorStep(made.round, made.lr, made.blocks, made.held, made.whole, share)


def places(layout: VectorLayout) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Where in the vector each parameter begins, and its shape."""
    found, start = {}, 0
    for name, shape in layout:
        found[name] = (start, shape)
        start += int(np.prod(shape))
    return found


def best_factors(
    b: Sequence[NDArray[np.float32]], a: Sequence[NDArray[np.float32]], weights: NDArray[np.float64]
) -> tuple[Matrix, Matrix, float, float]:
    """B' [out, r] and A' [r, in] with B'A' nearest to M = `Σ w_n B_n A_n / Σ w_n`; squared norms of M − B'A' and of M.

    M is a product of two thin matrices, so its SVD is that of a small one between their QR factors. Each singular value
    is shared equally by both factors; of u and −u the one whose largest entry is positive.
    """
    rank = a[0].shape[0]
    shares = weights / weights.sum()
    tall = np.concatenate([share * each.astype(np.float64) for share, each in zip(shares, b, strict=True)], axis=1)
    wide = np.concatenate([each.astype(np.float64) for each in a], axis=0)
    q_left, r_left = np.linalg.qr(tall)
    q_right, r_right = np.linalg.qr(wide.T)
    u, s, vt = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    new_b, new_a = np.zeros((tall.shape[0], rank)), np.zeros((rank, wide.shape[1]))
    count = min(rank, s.size)
    u, v = q_left @ u[:, :count], vt[:count] @ q_right.T
    signs = np.sign(u[np.abs(u).argmax(axis=0), np.arange(count)])
    signs[signs == 0] = 1.0
    root = np.sqrt(s[:count])
    new_b[:, :count] = u * (signs * root)
    new_a[:count] = v * (signs * root)[:, None]
    return new_b, new_a, float((s[count:] ** 2).sum()), float((s**2).sum())


def check(config: Config) -> list[str]:
    trainable, aggregate = config.model.trainable, config.step.aggregate
    require(trainable == "lora", "model.trainable", trainable, "lora, because method is fedit")
    require(config.options.aggregate != "exact" or aggregate == "mean", "step.aggregate", aggregate,
            "mean, because fedit.aggregate is exact")
    return fedavg.check(config)


METHOD = FirstOrder(train, step, Options, check)
