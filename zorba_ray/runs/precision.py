"""Few bits of evaluation are used where they are as good as float32: measured on the run's own clients, before round 0.

It costs at most about what a round with all blocks active does. What `model.precision=auto` came to be is the run's
precision from then on: it stands in its config.yaml, and a resumed run does not measure again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_bytes, parse_clients
from zorba_ray.engine.precision import Rounding, in_precision, multiplies_bfloat16, rounding
from zorba_ray.engine.trie import count_edges
from zorba_ray.methods import has_gradients, method_of
from zorba_ray.methods.method import ZeroOrder
from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Kind
from zorba_ray.rounds.draw import plan_round
from zorba_ray.tasks import Task
from zorba_ray.tasks.batches import make_batch, sample_batch

AUTO, LOW = "auto", "bfloat16"
MOST_DIRECTIONS, CLIENTS = 16, 2


def at_first(config: Config) -> Config:
    """What a run with model.precision=auto begins in, to measure."""
    return with_precision(config, "float32") if config.model.precision == AUTO else config


def with_precision(config: Config, precision: str) -> Config:
    return replace(config, model=replace(config.model, precision=precision))


def chosen(
    config: Config, task: Task, model: BlockModel, shards: Sequence[NDArray[np.int64]], hollow: bool
) -> tuple[str, BlockModel, list[str]]:
    """For model.precision=auto: what it comes to, the float32 `model` in that precision, and why."""
    device = "cuda" if config.runtime.device != "cpu" and has_gpu() else "cpu"
    if not multiplies_bfloat16(device):
        return "float32", model, [f"model.precision=auto takes float32: this {device} does not multiply {LOW}"]
    if hollow:
        why = "model.precision=auto is answered for in float32: without weights nothing is measured"
        return "float32", model, [why]
    low = in_precision(model, LOW)
    found = measured(config, task, low, model, shards)
    most = config.model.rounding
    if found.share > most:
        why = f"model.precision=auto takes float32: {LOW} is for a share of {most:g} or less"
        return "float32", model, [found.told(LOW), why]
    return LOW, low, [found.told(LOW), f"model.precision=auto takes {LOW}: a share of {most:g} is allowed"]


def precision_notes(
    config: Config, task: Task, model: BlockModel, shards: Sequence[NDArray[np.int64]]
) -> list[str]:
    """Where few bits were asked for: what they do to the scalars, and a warning where that is much."""
    precision = config.model.precision
    if precision == "float32" or has_gradients(config):
        return []
    found = measured(config, task, model, in_precision(model, "float32"), shards)
    if found.bears(config.model.rounding):
        return [found.told(precision)]
    return [found.told(precision), (
        f"model.precision={precision} is noisy at zo.mu={config.zo.mu:g} (a share of {config.model.rounding:g} is "
        f"stated by model.rounding): use a larger zo.mu (1e-2 usually suffices) or model.precision=float32"
    )]  # fmt: skip


def measured(
    config: Config, task: Task, low: BlockModel, exact: BlockModel, shards: Sequence[NDArray[np.int64]]
) -> Rounding:
    """On two mini-batches of one or two clients, along as many directions as the costs of a round pay for."""
    cells = affordable(config, low)
    clients = CLIENTS if cells >= 4 * CLIENTS else 1
    batches = [own_batches(config, task, shards, n) for n in range(min(clients, len(shards)))]
    directions = min(MOST_DIRECTIONS, max(1, cells // sum(map(len, batches))))
    kind: Kind = "rademacher" if config.zo.noise == "rademacher" else "gaussian"
    hidden = parse_bytes(config.runtime.hidden_memory)
    return rounding(low, exact, batches, config.zo.mu, kind, config.seed, directions, hidden)


def affordable(config: Config, model: BlockModel) -> int:
    """Two-sided scalars in both precisions that cost what a round does in which all blocks are active."""
    plan, method = plan_round(config, 0), method_of(config)
    assert isinstance(method, ZeroOrder)
    edges = sum(count_edges(method.probes(plan, 0, np.ones(len(model.blocks), dtype=np.bool_)), model.columns))
    participants = parse_clients(config.participation.clients, config.clients.count)
    return int(participants * plan.local_steps * edges / (4 * len(model.stages)))


def own_batches(config: Config, task: Task, shards: Sequence[NDArray[np.int64]], client: int) -> list[Batch]:
    """Two mini-batches of a client, or one that is all its data."""
    shard, size = shards[client], config.clients.batch
    steps = (0, 1) if len(shard) > size else (0,)
    return [make_batch(task.train, sample_batch(shard, size, config.seed, client, 0, k), task) for k in steps]


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
