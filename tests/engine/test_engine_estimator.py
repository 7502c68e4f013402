"""Properties of the estimator that the engine's versions make up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_models import block_model, make_batch

from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.engine.plain import plain_loss
from zorba_ray.engine.precision import two_sided_scalars
from zorba_ray.noise import Direction, Kind, combine, sample

MU = 1e-3


def estimates(
    theta: torch.Tensor, target: torch.Tensor, curvature: torch.Tensor, count: int, kind: Kind
) -> np.ndarray:
    """ρ_p z_p [count, d] on f(θ) = ½ Σ h (θ − t)², perturbed as the engine does."""
    size = theta.numel()
    directions = [Direction(1, 0, p) for p in range(count)]
    seen = torch.empty(count, 2, size)
    for direction, pair in zip(directions, seen, strict=True):
        for sign, scratch in zip((1, -1), pair, strict=True):
            combine(scratch, theta, ((direction, sign * MU),), 1, kind)
    losses = ((seen.double() - target) ** 2 @ curvature / 2).numpy()
    z = np.stack([sample(direction, 1, size, kind) for direction in directions])
    return np.asarray((losses[:, 0] - losses[:, 1])[:, None] / (2 * MU) * z)


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_unbiased_on_a_quadratic_and_variance_falls_as_one_over_directions(kind: Kind) -> None:
    rng = np.random.default_rng(5)
    size = 12
    theta = torch.from_numpy(rng.normal(size=size).astype(np.float32))
    target, curvature = torch.from_numpy(rng.normal(size=size)), torch.from_numpy(rng.uniform(0.5, 2, size))
    gradient = (curvature * (theta.double() - target)).numpy()
    errors = {}
    single = estimates(theta, target, curvature, 4000, kind)
    deviation = single.std(0) / np.sqrt(len(single))
    assert (np.abs(single.mean(0) - gradient) < 5 * deviation + 1e-3).all(), "biased"
    for count in (1, 8):  # the same directions, averaged by eights
        averaged = single.reshape(-1, count, size).mean(1)
        errors[count] = ((averaged - gradient) ** 2).sum(1).mean()
    theory = (gradient**2).sum() * (size + 1 if kind == "gaussian" else size - 1)
    assert errors[1] == pytest.approx(theory, rel=0.15)
    assert errors[1] / errors[8] == pytest.approx(8, rel=0.25)


@settings(max_examples=10)
@given(
    st.integers(0, 1000),
    st.lists(st.booleans(), min_size=3, max_size=3).filter(any),
    st.sampled_from(["gaussian", "rademacher"]),
)
def test_scalars_are_directional_derivatives_over_the_active_blocks(p: int, active: list[bool], kind: Kind) -> None:
    """ρ ≈ Σ over active blocks of ∇_l·z_l, with gradients from autograd: masked blocks contribute nothing."""
    model = block_model("llama")  # smooth: no kinks as of ReLU
    batch = make_batch(4, 8)
    direction = Direction(9, 2, p)
    paths = tuple(tuple(((direction, s * MU),) if a else () for a in active) for s in (1, -1))
    losses = evaluate(model, [Work(batch, paths)], kind, 1 << 30)[0].losses
    scalar = (losses[0] - losses[1]) / (2 * MU)
    for block in model.blocks:
        for parameter in block.parameters:
            parameter.requires_grad_(True)
    plain_loss(model, batch).backward()
    slope = 0.0
    for block, chosen in zip(model.blocks, active, strict=True):
        gradient = torch.cat([parameter.grad.flatten() for parameter in block.parameters]).double().numpy()
        slope += float(gradient @ sample(direction, block.noise_id, block.size, kind)) * chosen
    assert scalar == pytest.approx(slope, rel=0.01, abs=1e-2)


def test_averaged_scalars_find_the_gradient() -> None:
    """cos(ĝ, ∇) ≈ √(P/(P + d + 1)) for P Gaussian directions in d dimensions (the design's quick check)."""
    model = block_model("opt")
    batch = make_batch(6, 8)
    directions = 400
    scalars = two_sided_scalars(model, [batch], MU, "gaussian", 4, directions, 1 << 30)[0]
    block = model.blocks[1]
    estimate = sum(
        rho * sample(Direction(4, 0, p), block.noise_id, block.size, "gaussian").astype(np.float64)
        for p, rho in enumerate(scalars)
    )
    for each in model.blocks:
        for parameter in each.parameters:
            parameter.requires_grad_(True)
    plain_loss(model, batch).backward()
    gradients = [torch.cat([q.grad.flatten() for q in each.parameters]).double().numpy() for each in model.blocks]
    gradient = gradients[1]
    cosine = float(estimate @ gradient / np.linalg.norm(estimate) / np.linalg.norm(gradient))
    share = np.linalg.norm(gradient) / np.sqrt(sum(np.linalg.norm(g) ** 2 for g in gradients))
    expected = share * np.sqrt(directions / (directions + block.size + 1))
    assert cosine == pytest.approx(expected, rel=0.25) and cosine > 4 / np.sqrt(block.size)


def test_one_sided_and_two_sided_agree_to_first_order() -> None:
    """They differ by curvature times μ / 2: half of μ, half of the gap."""
    model, gaps, slopes = block_model("llama"), [], []
    for mu in (2e-3, 1e-3):
        paths = tuple((((Direction(2, 0, 0), s * mu),) if s else (),) * 3 for s in (1, -1, 0))
        plus, minus, clean = evaluate(model, [Work(make_batch(4, 8), paths)], "gaussian", 1 << 30)[0].losses
        slopes.append((plus - minus) / (2 * mu))
        gaps.append((plus - clean) / mu - slopes[-1])
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-3)
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05)
