"""Statistics from scalars: unbiased, whatever the sample of clients."""

from __future__ import annotations

import numpy as np
import pytest

from zorba_ray.config.schema import Config
from zorba_ray.methods import statistics as method
from zorba_ray.rounds.plan import Report
from zorba_ray.rounds.statistics import estimate, probe_plans


def reports_of(gradients: np.ndarray, noise: float, clients: list[int], directions: int, rng: np.random.Generator):
    """Scalars ⟨∇f_nb, z_p⟩ of two batches, for gradients [N, L, d] and mini-batch noise of that standard deviation."""
    blocks, size = gradients.shape[1:]
    z = rng.standard_normal((directions, blocks, size))
    answers = []
    for _ in range(2):
        batch = gradients[clients] + noise * rng.standard_normal((len(clients), blocks, size))
        scalars = np.einsum("nld,pld->nlp", batch, z).reshape(len(clients), -1).astype(np.float32)
        answers.append([Report(n, row, 0.0, 1, 1, 1.0, 1.0) for n, row in zip(clients, scalars, strict=True)])
    return answers


@pytest.mark.parametrize("taken", [10, 4])
def test_statistics_are_unbiased(taken: int):
    rng = np.random.default_rng(0)
    total, blocks, size, noise = 10, 2, 30, 0.5
    gradients = rng.standard_normal((1, blocks, size)) + 0.7 * rng.standard_normal((total, blocks, size))
    mean = gradients.mean(axis=0)
    expected = np.stack([
        (mean**2).sum(-1), np.full(blocks, noise**2 * size), ((gradients - mean) ** 2).sum(-1).mean(axis=0)
    ])
    config = Config()
    config.clients.count, config.allocation.probe_clients, config.allocation.probe_directions = total, taken, 50
    plans = probe_plans(config, 0)
    estimates = []
    for _ in range(120):
        clients = sorted(rng.choice(total, taken, replace=False).tolist())
        found = estimate(plans, reports_of(gradients, noise, clients, 50, rng), total)
        estimates.append([found.gradient, found.batch_variance, found.client_variance])
    mean_estimate = np.mean(estimates, axis=0)
    error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert (np.abs(mean_estimate - expected) < 4.5 * error).all(), (mean_estimate, expected, error)


def test_both_plans_share_clients_and_directions_but_no_training_rounds_directions():
    config = Config()
    first, second = probe_plans(config, 7)
    assert first.participants == second.participants
    assert first.direction(0, 3) == second.direction(0, 5)
    assert first.batch != second.batch
    assert first.direction(0, 0).step != 0


def test_each_probe_perturbs_one_block_and_scalars_come_back_by_block():
    config = Config()
    config.allocation.probe_directions = 3
    plan = probe_plans(config, 0)[0]
    paths = method.probes(plan, 0, np.ones(4, dtype=bool))
    assert len(paths) == 4 * 3 * 2
    assert all(sum(bool(version) for version in path) == 1 for path in paths)
    losses = np.array([1.0 + plan.mu * sign * k for k in range(12) for sign in (1, -1)])
    np.testing.assert_allclose(method.scalars(plan, losses), np.arange(12), rtol=1e-3, atol=1e-6)
