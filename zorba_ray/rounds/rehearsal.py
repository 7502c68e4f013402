"""A client's round on a model without numbers: the host's own code, followed, for what it holds and moves.

What is predicted (`engine.predict`) is compared with this. The client is alone on its device, as its budget wants it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_bytes
from zorba_ray.engine.cost import stage_flops
from zorba_ray.engine.predict import padded_batch
from zorba_ray.engine.trace import Trace, resident
from zorba_ray.engine.twin import few_of, twin_of
from zorba_ray.messages import BlockInfo, Header, Report, RoundPlan
from zorba_ray.methods import has_gradients
from zorba_ray.model.batch import Batch
from zorba_ray.model.model import BlockModel, streams_matrices
from zorba_ray.noise import Kind
from zorba_ray.rounds.draw import plan_round
from zorba_ray.rounds.host import Host


@dataclass(frozen=True)
class Traced:
    """Most bytes on the device, and bytes that crossed the bus, in a round of one client, and its report."""

    peak: int
    moved: int
    report: Report


class Rehearsing(Host):
    """A host of one client, whose mini-batches all have the same shape."""

    def __init__(self, config: Config, model: BlockModel, examples: int, tokens: int):
        blocks = tuple(BlockInfo(block.name, block.noise_id, block.size) for block in model.blocks)
        noise: Kind = "rademacher" if config.zo.noise == "rademacher" else "gaussian"
        header = Header(method=config.method, seed=config.seed, noise=noise, base_sha256="", blocks=blocks)
        no_task: Any = None
        super().__init__(config, model, header, no_task, [np.zeros(1, dtype=np.int64)])
        self.shape = examples, tokens

    def _batch(self, plan: RoundPlan, client: int, k: int) -> Batch:
        return padded_batch(self.model, *self.shape)


def rehearse(config: Config, model: BlockModel, row: NDArray[np.bool_], tokens: int) -> Traced:
    """A client with these blocks active and texts of so many tokens; the model itself is only looked at."""
    trains = has_gradients(config)
    if trains and config.options.epochs:  # as it is predicted: of passes over the data two steps
        config = replace(config, **{config.method: replace(config.options, epochs=0, steps=2)})
    stage_flops(model, 1, 1)  # counted once for all hosts, before they work
    twin = twin_of(model)
    if streams_matrices(config.model) and not trains:
        twin.stream()
    host = Rehearsing(config, twin, config.clients.batch, tokens)
    with Trace(resident(twin)) as trace:
        if not trains:
            twin.hold(row.tolist())
            for block, on in zip(twin.blocks, row, strict=True):
                block.few = None if on or block.bits is None else few_of(block)
            trace.follow(resident(twin))
        trace.restart()
        trace.moved = 0
        (report,) = host.probe(plan_round(config, 0, [0]), [0], row[None], alone=True)
    return Traced(parse_bytes(config.clients.budgets.context) + trace.peak, trace.moved, report)
