"""How many clients' mini-batches share one product: what `clients.fuse=auto` comes to, and what has room."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.config.units import format_bytes, parse_bytes, parse_clients
from zorba_ray.engine.itinerary import live_states
from zorba_ray.engine.predict import padded_batch
from zorba_ray.methods import ZeroOrder, method_of
from zorba_ray.methods.fit import can_fuse
from zorba_ray.model import BlockModel
from zorba_ray.rounds.draw import plan_round

# Tokens of one product beyond which more buy nothing: measured on CPUs (`analysis/bench_runtime.py --only peers`), not
# on GPUs, where launches want more.
ENOUGH = {"cpu": 1024, "cuda": 16384}
TURNS = 2  # groups that each core should have in a round, so that work can be dealt evenly


def with_fuse(config: Config, model: BlockModel, tokens: int) -> tuple[Config, list[str]]:
    """The config with a number, and why it is this one; a number that has no room for its hidden states is refused."""
    if config.clients.fuse == "1" or not can_fuse(config):
        return replace(config, clients=replace(config.clients, fuse=str(config.clients.fused))), []
    states = states_bytes(config, model, tokens)
    room = parse_bytes(config.runtime.hidden_memory)
    if config.clients.fuse != "auto":
        most = min(config.clients.fused, config.clients.count)
        if most * states > room:
            raise ConfigError(
                f"clients.fuse is {config.clients.fuse}: the hidden states of so many clients take "
                f"{format_bytes(most * states)}, and runtime.hidden_memory is {format_bytes(room)}; fuse at most "
                f"{max(1, room // states)}, or raise it"
            )
        return config, []
    fuse = chosen(config, tokens, room // states)
    why = f"clients.fuse=auto takes {fuse}: so many clients of a row have their mini-batches in one product"
    return replace(config, clients=replace(config.clients, fuse=str(fuse))), [why]


def chosen(config: Config, tokens: int, most: int) -> int:
    """Enough tokens for one product of this hardware, but groups for all cores."""
    import torch

    if config.placement == "per_client":
        return 1
    device = "cuda" if config.runtime.device != "cpu" and torch.cuda.is_available() else "cpu"
    enough = math.ceil(ENOUGH[device] / (config.clients.batch * tokens))
    participants = parse_clients(config.participation.clients, config.clients.count)
    hands = config.runtime.actors or (torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1)
    return max(1, min(enough, math.ceil(participants / (TURNS * hands)), most))


def states_bytes(config: Config, model: BlockModel, tokens: int) -> int:
    """Of one client's hidden states, as many as are alive at once where every shared prefix is computed once."""
    plan, method = plan_round(config, 0), method_of(config)
    assert isinstance(method, ZeroOrder)
    paths = method.probes(plan, 0, np.ones(len(model.blocks), dtype=np.bool_))
    batch = padded_batch(model, config.clients.batch, tokens)
    return live_states(paths, model.columns) * model.state_bytes(batch)
