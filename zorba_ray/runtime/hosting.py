"""How many actors the memory of a node holds: what one needs follows from the model, once somebody has read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zorba_ray.config.schema import RuntimeConfig
from zorba_ray.config.units import format_bytes, parse_bytes
from zorba_ray.runtime.launch import ACTOR_MEMORY, cluster_nodes
from zorba_ray.runtime.pool import Pool

if TYPE_CHECKING:
    from zorba_ray.runs.prepared import Outline


def actor_bytes(outline: Outline, runtime: RuntimeConfig) -> int:
    """Memory of an actor on a CPU: its libraries, the model with every block active, the hidden states it may hold at
    once, and what else more clients' mini-batches take that share a product."""
    vram = outline.instance.vram
    beside = (outline.fuse - 1) * (vram.parts.get("workspace", 0.0) + vram.parts.get("batch", 0.0))
    model = vram.of(np.ones(vram.blocks, dtype=np.bool_))
    return ACTOR_MEMORY + int(model + beside) + parse_bytes(runtime.hidden_memory)


def fit(pool: Pool, each: int) -> str:
    """Let go of the actors that a node's memory does not hold beside the others; what the user should know of it."""
    nodes = {str(node["NodeID"]): int(node["Resources"].get("memory", 0)) for node in cluster_nodes()}
    before = len(pool.members)
    pool.keep(lambda node: nodes.get(node, 0) // each)
    after, largest = len(pool.members), max(nodes.values(), default=0)
    if after == before and largest >= each:
        return ""
    note = f"; one needs about {format_bytes(each)} with this model, and Ray has {format_bytes(largest)} to give"
    return note + (f" on a node: {after} of {before} stay" if after < before else "")
