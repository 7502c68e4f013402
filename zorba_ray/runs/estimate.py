"""What a run will take, from its allocation and one client that is really tried in this process."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from zorba_ray.allocation import make_plan
from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_clients
from zorba_ray.ledger import Entry, LedgerWriter
from zorba_ray.ledger.tensors import tensor_bytes
from zorba_ray.methods import method_of
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.memory import ClassMemory, memory_by_class
from zorba_ray.runs.prepare import Base, build_host
from zorba_ray.runs.prepared import Prepared
from zorba_ray.world.traffic import Wire, traffic_of

REPEATS = 3  # of what is timed; the quickest counts
ROW = 60  # bytes of a client's row in the records, beside its scalars: about what Parquet makes of it


@dataclass(frozen=True)
class Estimate:
    """Of a whole run. Seconds are those of this machine's cores, one thread for each actor."""

    budgets: list[ClassMemory]
    flops: float  # forward and backward, evaluation left out
    bytes_up: int
    bytes_down: int
    disk: int
    host_memory: int  # of all actors
    seconds: float


def estimate(config: Config, prepared: Prepared, actors: int) -> Estimate:
    """Tries a round of a typical client. Who stays away or reports late is not counted."""
    base: Base = prepared.base
    outline, instance = prepared.outline, prepared.allocator.instance
    plan = prepared.allocator.plans.get(0) or make_plan(instance, config.allocation, config.seed)
    matrix = plan.matrix
    participants = parse_clients(config.participation.clients, config.clients.count)
    client_rounds = participants * config.rounds

    torch.set_num_threads(config.runtime.threads)
    host = build_host(base, "cpu")
    costs = instance.compute(matrix)
    typical = int(np.argsort(costs)[len(costs) // 2])
    members = range(max(1, int(participants)))
    round = plan_round(config, 0, sorted({typical, *members}))
    batch = np.arange(min(config.evaluation.batch, outline.test_examples))
    probing = evaluating = math.inf
    for _ in range(REPEATS):  # the first also warms up
        started = time.perf_counter()
        (report,) = host.probe(round, [typical], matrix[[typical]])
        probing = min(probing, time.perf_counter() - started)
        started = time.perf_counter()
        host.evaluate([batch])
        evaluating = min(evaluating, time.perf_counter() - started)
    flops = report.flops + report.backward_flops
    of_typical = client_rounds * float(costs.mean()) / float(costs[typical])  # rounds of it that come to the same
    evaluations = 1 + -(-config.rounds // config.evaluation.every)
    examples = outline.test_examples * evaluations / len(batch)

    # Steps are as long as they are with everybody's scalars: made-up ones do for that.
    made_up = np.random.default_rng(0)
    reports = [
        replace(report, client=n, scalars=made_up.normal(size=report.scalars.shape).astype(report.scalars.dtype))
        for n in members
    ]
    step = method_of(config).step(round, reports, matrix, outline.weights)
    sizes = [block.size for block in outline.header.blocks]
    traffic = traffic_of(config)
    wire = Wire(config.clients.count, traffic, sizes)
    for t in range(2):  # the second time everybody knows who has what
        wire.add(replace(step, round=t), int(participants))
        down = float(wire.download(range(config.clients.count), matrix).mean())
    with tempfile.TemporaryDirectory() as place:
        ledger = LedgerWriter(Path(place) / "ledger.jsonl", outline.header)
        before = ledger.path.stat().st_size
        ledger.append(Entry(step, 1.0))
        ledger.close()
        a_round = ledger.path.stat().st_size - before + tensor_bytes(Path(place))

    weights = sum(array.nbytes for array in base.weights.values())
    own = 2 * 4 * sum(sizes)  # what steps change, and the scratch beside it
    from_actor = 350 * 2**20  # torch, transformers and a small model (measured)
    return Estimate(
        budgets=memory_by_class(config, instance, plan, host.model, base.task.max_tokens),
        flops=flops * of_typical,
        bytes_up=int(report.upload * client_rounds),
        bytes_down=int(down * (client_rounds if traffic.dense else config.clients.count * config.rounds)),
        disk=int(a_round * config.rounds + (ROW + report.scalars.nbytes) * client_rounds),
        host_memory=int(weights + actors * (from_actor + own)),
        seconds=(probing * of_typical + evaluating * examples) / actors,
    )
