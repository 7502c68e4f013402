"""Statistics from scalars: unbiased, whatever the sample of clients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from zorba_ray.config.schema import Config
from zorba_ray.engine.backward import gradients
from zorba_ray.engine.plain import plain_loss
from zorba_ray.messages import Report
from zorba_ray.methods import statistics as method
from zorba_ray.noise import sample
from zorba_ray.rounds.host import Host
from zorba_ray.rounds.statistics import curvature, estimate, probe_plans
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import build_host, prepare
from zorba_ray.tasks import Batch


def reports_of(
    gradients: np.ndarray, curvature: np.ndarray, noise: float, clients: list[int], directions: int,
    rng: np.random.Generator,
):  # fmt: skip
    """Scalars ⟨∇f_nb, z_p⟩ and ⟨z_p, H_n z_p⟩ of two batches, for gradients [N, L, d], diagonal curvature [L, d] that
    differs by a tenth between clients, and mini-batch noise of that standard deviation."""
    blocks, size = gradients.shape[1:]
    z = rng.standard_normal((directions, blocks, size))
    own = 1 + 0.1 * rng.standard_normal(len(clients))
    answers = []
    for _ in range(2):
        batch = gradients[clients] + noise * rng.standard_normal((len(clients), blocks, size))
        rho = np.einsum("nld,pld->nlp", batch, z).reshape(len(clients), -1)
        h = np.einsum("n,ld,pld->nlp", own, curvature, z**2).reshape(len(clients), -1)
        scalars = np.concatenate([rho, h], axis=1).astype(np.float32)
        answers.append([Report(n, row, 0.0, 1, 1, 1.0, 1.0) for n, row in zip(clients, scalars, strict=True)])
    return answers


@pytest.mark.parametrize("taken", [10, 4])
def test_statistics_are_unbiased(taken: int):
    rng = np.random.default_rng(0)
    total, blocks, size, noise = 10, 2, 30, 0.5
    gradients = rng.standard_normal((1, blocks, size)) + 0.7 * rng.standard_normal((total, blocks, size))
    mean = gradients.mean(axis=0)
    curvature = np.stack([np.full(size, 0.5), rng.exponential(2.0, size)])
    expected = np.stack([
        (mean**2).sum(-1), np.full(blocks, noise**2 * size), ((gradients - mean) ** 2).sum(-1).mean(axis=0),
        curvature.mean(-1),
    ])
    config = Config()
    config.clients.count, config.allocation.probe_clients, config.allocation.probe_directions = total, taken, 50
    plans = probe_plans(config, 0)
    estimates = []
    for _ in range(120):
        clients = sorted(rng.choice(total, taken, replace=False).tolist())
        found = estimate(plans, reports_of(gradients, curvature, noise, clients, 50, rng), total, np.full(blocks, size))
        estimates.append([found.gradient, found.batch_variance, found.client_variance, found.smoothness])
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
    assert len(paths) == 1 + 4 * 3 * 2
    assert not any(paths[0])
    assert all(sum(bool(version) for version in path) == 1 for path in paths[1:])
    rho, h = np.arange(12), 100.0 * np.arange(12)[::-1]
    losses = [1.0 + plan.mu * s * r + plan.mu**2 / 2 * c for r, c in zip(rho, h, strict=True) for s in (1, -1)]
    found = method.scalars(plan, np.array([1.0, *losses]))
    np.testing.assert_allclose(found, np.concatenate([rho, h]), rtol=1e-3, atol=1e-6)


def test_curvature_that_cannot_be_told_from_none_counts_as_its_error():
    rng = np.random.default_rng(1)
    h = rng.normal([[0.0], [-50.0], [30.0]], 20.0, (2, 6, 3, 8))  # [batch, clients, L, P]
    found = curvature(h)
    assert 0.5 < found[0] / (20 / np.sqrt(96)) < 4
    assert 0 < found[1] < 10
    np.testing.assert_allclose(found[2], h[:, :, 2].mean())
    assert (curvature(h[:1, :1, :, :1]) > 0).all(), "even of a single probe"


def test_curvature_is_how_the_gradient_turns_along_a_direction():
    config = load_config(None, ["clients.count=3", "clients.budgets.explicit=[1 GiB, 1 GiB, 1 GiB]"])
    config.allocation.probe_clients, config.allocation.probe_directions = 1, 2
    config.clients.batch = 100  # ReLUs make the second differences of a few examples rough
    host = build_host(prepare(config).base, "cpu")
    plan = replace(probe_plans(config, 0)[0], mu=4e-3)
    client, blocks = plan.participants[0], host.model.blocks
    h = host.probe(plan, [client], np.ones((1, len(blocks)), dtype=np.bool_))[0].scalars.reshape(2, len(blocks), 2)[1]
    batch = host._batch(plan, client, plan.batch)
    for block in (0, 1, 5):
        for p in range(2):
            noise_id, vector, slopes = blocks[block].noise_id, blocks[block].vector, []
            z = torch.from_numpy(sample(plan.direction(p, client), noise_id, len(vector), "gaussian"))
            base = vector.clone()
            for s in (plan.mu, -plan.mu):
                vector.copy_(base + s * z)
                slopes.append(slope(host, batch, block, z))
            vector.copy_(base)
            along = (slopes[0] - slopes[1]) / (2 * plan.mu)
            assert h[block, p] == pytest.approx(along, rel=0.15, abs=3.0)


def slope(host: Host, batch: Batch, block: int, z: torch.Tensor) -> float:
    """⟨∇f, z⟩ on one block, by autograd."""
    row = np.arange(len(host.model.blocks)) == block
    with gradients(host.model, row) as parameters:
        found = torch.autograd.grad(plain_loss(host.model, batch), parameters)
    return float(torch.cat([g.reshape(-1) for g in found]).double() @ z.double())
