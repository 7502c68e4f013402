"""The methods in real runs: local steps, resume, catching up, accumulators, and the bytes that travel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from methods.zeroth_runs import config_of, host_of, ledger_of, run

from zorba_ray.engine.plain import plain_loss
from zorba_ray.ledger import read_ledger, replay
from zorba_ray.messages import SharedStep
from zorba_ray.methods import METHODS
from zorba_ray.methods.fedkseed import History, draws
from zorba_ray.noise import Direction, combine_reference
from zorba_ray.records.stream import table
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.prepare import prepare
from zorba_ray.tasks.batches import make_batch, sample_batch

LOCAL = [
    ["method=decomfl", "zo.local_steps=3", "zo.directions=2"],
    ["method=fedzo", "zo.local_steps=2", "zo.directions=2", "zo.shared=false"],
    ["method=fedkseed", "zo.local_steps=4", "zo.directions=1", "fedkseed.size=6"],
    ["method=fedspzo", "zo.local_steps=2", "zo.directions=4"],
]


@pytest.mark.parametrize("overrides", LOCAL, ids=lambda o: o[0])
def test_local_steps_of_one_client_know_nothing_of_the_others_and_leave_no_trace(overrides: list[str]) -> None:
    host = host_of(*overrides)
    plan = plan_round(host.config, 0, (0, 1, 2, 3))
    active = np.array([[1, 1, 0, 0, 1, 0], [0, 1, 1, 1, 0, 0], [1] * 6, [0, 0, 0, 0, 0, 1]], dtype=bool)
    before = host.digest()
    together = host.probe(plan, [0, 1, 2, 3], active)
    assert host.digest() == before
    for n in (3, 1, 0, 2):
        (alone,) = host.probe(plan, [n], active[[n]])
        assert alone.scalars.tobytes() == together[n].scalars.tobytes()
        assert (alone.loss, alone.flops, alone.upload) == (together[n].loss, together[n].flops, together[n].upload)
    assert len({report.scalars.tobytes() for report in together}) == 4


def test_decomfls_local_steps_on_a_real_model_are_those_of_its_definition() -> None:
    """Plain forwards on weights that are written in place, mini-batch k for local step k."""
    host = host_of("method=decomfl", "zo.local_steps=3", "zo.directions=2")
    config, blocks = host.config, host.model.blocks
    row = np.array([False, True, False, True, True, False])
    (found,) = host.probe(plan_round(config, 0, (2,)), [2], row[None])
    theta = [block.vector.clone() for block in blocks]

    def loss(vectors: list[torch.Tensor], k: int) -> float:
        for block, vector in zip(blocks, vectors, strict=True):
            block.vector.copy_(vector)
        index = sample_batch(host.shards[2], config.clients.batch, config.seed, 2, 0, k)
        with torch.no_grad():
            return float(plain_loss(host.model, make_batch(host.task.train, index, host.task)))

    def plus(terms: list[tuple[Direction, float]]) -> list[torch.Tensor]:
        return [
            torch.from_numpy(combine_reference(vector.numpy(), terms, block.noise_id, "gaussian")) if on else vector
            for vector, block, on in zip(theta, blocks, row, strict=True)
        ]

    mu, expected = config.zo.mu, []
    for k in range(3):
        directions = [Direction(config.seed, 0, p, k) for p in range(2)]
        pairs = [(loss(plus([(d, mu)]), k), loss(plus([(d, -mu)]), k)) for d in directions]
        rho = [np.float32((a - b) / (2 * mu)) for a, b in pairs]
        expected += rho
        moves = [-(config.step.lr / 2) * float(value) for value in rho]
        theta = plus(list(zip(directions, moves, strict=True)))
    assert found.scalars.tolist() == [float(value) for value in expected]


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=fedkseed", "zo.local_steps=5", "zo.directions=1", "fedkseed.size=16", "fedkseed.draw=pro"],
        ["method=decomfl", "zo.local_steps=2", "participation.clients=2"],
        ["method=fedspzo", "fedspzo.form=sequential", "fedspzo.per_client=true"],
        ["method=fedzo", "zo.shared=false", "zo.local_steps=2", "participation.clients=3"],
    ],
    ids=lambda o: o[0],
)
def test_a_resumed_run_arrives_at_the_same_ledger(tmp_path: Path, overrides: list[str]) -> None:
    prepared = prepare(config_of(*overrides, "rounds=4"))
    run(prepared, tmp_path / "whole")
    run(prepared, tmp_path / "parts", stop_after=2)
    run(prepare(prepared.config, tmp_path / "parts"), tmp_path / "parts", resume=True)
    assert ledger_of(tmp_path / "parts") == ledger_of(tmp_path / "whole")
    columns = ["round", "client", "bytes_up", "bytes_down", "scalars"]
    whole, parts = (table(tmp_path / name).select(columns).to_pylist() for name in ("whole", "parts"))
    assert parts == whole


def test_pro_draws_by_what_the_ledger_tells(tmp_path: Path) -> None:
    """Chances are the softmax of the normalised mean |ρ| over all draws, and later draws follow them."""
    config = config_of(
        "method=fedkseed", "zo.local_steps=16", "zo.directions=1", "fedkseed.size=8", "fedkseed.draw=pro"
    )
    run(prepare(config), tmp_path)
    steps = [entry.step for entry in read_ledger(tmp_path / LEDGER).entries]
    rows = [row for row in table(tmp_path).to_pylist() if row["kind"] == "client"]
    seen: dict[int, list[float]] = {s: [] for s in range(8)}
    history = History(8)
    for t, step in enumerate(steps):
        plan = plan_round(config, t, range(4), history.told())
        for row in (row for row in rows if row["round"] == t):
            drawn = draws(plan, row["client"], 16)
            for s, rho in zip(drawn, row["scalars"], strict=True):
                seen[int(s)].append(abs(rho))
        history.add(step)
        mean = np.array([np.mean(seen[s]) if seen[s] else 0.0 for s in range(8)])
        scaled = np.exp((mean - mean.min()) / (mean.max() - mean.min()))
        np.testing.assert_allclose(history.told(), scaled / scaled.sum(), rtol=1e-5)
    chances = np.array([0.5, 0, 0, 0, 0, 0, 0, 0.5])
    assert set(draws(replace(plan, memory=chances), 0, 200)) == {0, 7}


def test_fewer_draws_are_the_beginning_of_more() -> None:
    plan = plan_round(config_of("method=fedkseed", "fedkseed.size=1000"), 0)
    chances = np.arange(1.0, 1001) / 500500
    for here in (plan, replace(plan, memory=chances)):
        many = draws(here, 3, 50)
        assert all((draws(here, 3, count) == many[:count]).all() for count in range(50))


def test_who_was_absent_arrives_at_the_same_bits(tmp_path: Path) -> None:
    """DeComFL: a client that comes back after missing rounds replays them, in one go, onto the weights that it has."""
    config = config_of("method=decomfl", "zo.local_steps=2", "participation.clients=1", "rounds=5")
    run(prepare(config), tmp_path)
    ledger = read_ledger(tmp_path / LEDGER)
    present, absent = host_of("method=decomfl"), host_of("method=decomfl")
    for entry in ledger.entries:
        present.apply([entry.step])
    absent.apply([ledger.entries[0].step])
    absent.apply([entry.step for entry in ledger.entries])
    assert absent.digest() == present.digest()


def test_fedkseeds_accumulators_are_the_model(tmp_path: Path) -> None:
    """w = w₀ − η Σ_s G_s z_s up to rounding; from the last state, only the directions that changed are needed."""
    config = config_of("method=fedkseed", "zo.local_steps=6", "zo.directions=1", "fedkseed.size=8")
    run(prepare(config), tmp_path)
    ledger = read_ledger(tmp_path / LEDGER)
    host = host_of("method=fedkseed")
    vectors = [block.vector.clone() for block in host.model.blocks]
    start = [vector.clone() for vector in vectors]
    replay(vectors, ledger.header, (entry.step for entry in ledger.entries))
    G = np.zeros((len(vectors), 8), dtype=np.float64)
    for entry in ledger.entries:
        assert isinstance(entry.step, SharedStep) and entry.step.pool is not None
        G[:, entry.step.pool] += entry.step.coefficients
    whole = SharedStep(0, config.step.lr, G.astype(np.float32), per=1, pool=np.arange(8, dtype=np.int32))
    from_start = [vector.clone() for vector in start]
    replay(from_start, ledger.header, [whole])
    for moved, summed, first in zip(vectors, from_start, start, strict=True):
        assert torch.linalg.norm(moved - summed) < 1e-5 * torch.linalg.norm(moved - first)
    last = ledger.entries[-1].step
    before = [vector.clone() for vector in start]
    replay(before, ledger.header, (entry.step for entry in ledger.entries[:-1]))
    replay(before, ledger.header, [last])
    assert all(torch.equal(a, b) for a, b in zip(before, vectors, strict=True))


@pytest.mark.parametrize("name", ["zorba", "fedspzo", "decomfl", "fedkseed", "fedzo"])
def test_a_method_is_the_same_in_one_actor_or_many(name: str) -> None:
    """Two hosts that share the clients report what one host reports."""
    extra = ["zo.local_steps=2"] if name != "zorba" else []
    host = host_of(f"method={name}", *extra)
    plan = plan_round(host.config, 0, (0, 1, 2, 3))
    active = np.ones((4, 6), dtype=bool)
    one = host.probe(plan, [0, 1, 2, 3], active)
    two = [*host.probe(plan, [2, 0], active[:2]), *host_of(f"method={name}", *extra).probe(plan, [3, 1], active[:2])]
    for report in two:
        assert report.scalars.tobytes() == one[report.client].scalars.tobytes()
    step = METHODS[name].step(plan, one, active, np.ones(4))
    assert step.moved().all()
