"""Statistics from scalars: unbiased, whatever the sample of clients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.engine.backward import gradients
from zorba_ray.engine.plain import plain_loss
from zorba_ray.messages import Report, nothing_from
from zorba_ray.methods import statistics as method
from zorba_ray.model.batch import Batch
from zorba_ray.noise import sample
from zorba_ray.rounds.host import Host
from zorba_ray.rounds.statistics import curvature, estimate, gather, missing, probe_plans, refuse_too_few
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import build_host, prepare


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


def whole(answers: list[list[Report]], blocks: int) -> list[list[tuple[np.ndarray, Report]]]:
    """Each report is about all blocks."""
    return [[(np.ones(blocks, dtype=np.bool_), report) for report in answer] for answer in answers]


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
        chosen = replace(plans[0], participants=tuple(clients))
        answers = whole(reports_of(gradients, curvature, noise, clients, 50, rng), blocks)
        found = estimate(gather(answers, chosen, blocks), total, np.full(blocks, size))
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


def probed(blocks: int = 3, clients: int = 4, directions: int = 6):
    """A plan, and the answers of both mini-batches, block by block."""
    config = Config()
    config.clients.count = config.allocation.probe_clients = clients
    config.allocation.probe_directions = directions
    plan, rng = probe_plans(config, 0)[0], np.random.default_rng(5)
    rows = np.eye(blocks, dtype=np.bool_)
    answers = [
        [
            (row, Report(n, rng.standard_normal(2 * directions).astype(np.float32), 0.0, 1, 1, 1.0, 1.0))
            for row in rows for n in range(clients)
        ]
        for _ in range(2)
    ]  # fmt: skip
    return plan, answers


def test_block_by_block_or_all_at_once_the_estimate_is_the_same():
    plan, answers = probed()
    together = []
    for answer in answers:
        parts = [[r.scalars.reshape(2, -1) for _, r in answer if r.client == n] for n in range(4)]
        scalars = [np.concatenate(part, axis=1).reshape(-1) for part in parts]
        together.append([Report(n, row, 0.0, 1, 1, 1.0, 1.0) for n, row in enumerate(scalars)])
    np.testing.assert_array_equal(gather(answers, plan, 3), gather(whole(together, 3), plan, 3))


@pytest.mark.parametrize("spoiled", ["lost", "nan", "inf"])
def test_a_probe_that_is_lost_or_not_finite_spoils_only_itself(spoiled: str):
    plan, answers = probed()
    expected = estimate(gather(answers, plan, 3), 4, np.ones(3))
    row, report = answers[1][4]  # client 0, block 1
    scalars = report.scalars.copy()
    scalars[7] = np.nan if spoiled == "nan" else np.inf
    answers[1][4] = row, nothing_from(0, "lost") if spoiled == "lost" else replace(report, scalars=scalars)
    found = gather(answers, plan, 3)
    reports = [each for answer in answers for _, each in answer]
    refuse_too_few(found, ["a", "b", "c"], plan, reports)
    (note,) = missing(found, reports)
    assert "11 of 12 probes" in note and ("1 lost" if spoiled == "lost" else "1 not finite") in note
    estimated = estimate(found, 4, np.ones(3))
    for name in ("gradient", "batch_variance", "client_variance", "smoothness"):
        values, before = getattr(estimated, name), getattr(expected, name)
        assert np.isfinite(values).all() and (values > 0).all()
        np.testing.assert_allclose(values[[0, 2]], before[[0, 2]], rtol=1e-2)


def test_too_few_probes_are_one_line():
    plan, answers = probed(clients=3)
    lost = [[(row, nothing_from(each.client, "out_of_memory") if row[2] and each.client else each)
             for row, each in answer] for answer in answers]  # fmt: skip
    with pytest.raises(ConfigError, match=r"block c 1 of 3 clients .*\(4 out_of_memory\).*probe_clients") as caught:
        refuse_too_few(gather(lost, plan, 3), ["a", "b", "c"], plan, [each for answer in lost for _, each in answer])
    assert "\n" not in str(caught.value)


def test_where_budgets_do_not_hold_all_blocks_each_is_probed_by_those_who_can_hold_it():
    config = load_config(None, ["clients.count=4", "clients.budgets.explicit=[1 GiB, 1 MiB, 1 MiB, 1 MiB]",
                                "allocation.statistics=estimated", "allocation.probe_clients=4",
                                "task.train_examples=200", "task.test_examples=20", "clients.batch=2",
                                "task.max_tokens=16", "allocation.time_limit=1"])  # fmt: skip
    prepared = prepare(config)
    host, allocator, asked = build_host(prepared.base, "cpu"), prepared.allocator, []

    def probe(plan, active):
        rows = active[list(plan.participants)]
        asked.append((plan.participants, rows))
        return [host.probe(plan, [n], row[None])[0] for n, row in zip(plan.participants, rows, strict=True)]

    found = allocator.allocate(0, probe)
    vram, budgets = allocator.instance.vram, allocator.instance.budgets
    assert len(asked) == 2 * vram.blocks
    for participants, rows in asked:
        assert (rows.sum(axis=1) == 1).all() and (vram.of(rows) <= budgets[list(participants)]).all()
    assert np.isfinite(found.statistics.gradient).all()
