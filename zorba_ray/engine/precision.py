"""How much a low precision of evaluation harms the scalars: measured, not assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.model import BlockModel, build_model, export_weights
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Direction, Kind

ENOUGH = 0.98  # correlation below which a run is warned about


def scalar_correlation(
    model: BlockModel, batches: Sequence[Batch], mu: float, kind: Kind, seed: int,
    directions: int = 32, hidden_memory: int = 1 << 30,
) -> float:
    """Correlation of the two-sided scalars in the model's precision with those in float32, over directions and batches.

    The float32 model is built beside the given one for the time of the call.
    """
    reference = build_model(
        replace(model.spec, config=replace(model.spec.config, precision="float32")),
        export_weights(model),
        str(model.device),
    )
    low = two_sided_scalars(model, batches, mu, kind, seed, directions, hidden_memory)
    exact = two_sided_scalars(reference, batches, mu, kind, seed, directions, hidden_memory)
    return float(np.corrcoef(low.ravel(), exact.ravel())[0, 1])


def two_sided_scalars(
    model: BlockModel, batches: Sequence[Batch], mu: float, kind: Kind, seed: int, directions: int, hidden_memory: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """ρ = (L₊ − L₋)/2μ with every block active: [batches, directions]."""
    columns = len(model.blocks)
    paths = tuple(
        (((Direction(seed, 0, p), sign * mu),),) * columns for p in range(directions) for sign in (1.0, -1.0)
    )
    outcomes = evaluate(model, [Work(batch, paths) for batch in batches], kind, hidden_memory)
    losses = np.stack([outcome.losses.reshape(directions, 2) for outcome in outcomes])
    return (losses[..., 0] - losses[..., 1]) / (2 * mu)


def precision_warning(correlation: float, precision: str, mu: float) -> str | None:
    """What to tell the user, if anything."""
    if correlation >= ENOUGH:
        return None
    return (
        f"model.precision={precision}: scalars correlate {correlation:.3f} with float32 ones at zo.mu={mu:g} "
        f"(below {ENOUGH}); use a larger zo.mu (1e-2 usually suffices) or model.precision=float32"
    )
