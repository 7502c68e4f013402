"""The actor that carries clients: one (placement per_client) or many (cohort). A thin shell around a host."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import ray
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, Reports, RoundPlan, Step, Tally, nothing_from
from zorba_ray.runtime.metrics import Memory
from zorba_ray.runtime.packing import Standing

if TYPE_CHECKING:
    from zorba_ray.allocation import Instance, Plan
    from zorba_ray.runs.memory import ClassMemory
    from zorba_ray.runs.prepare import Base
    from zorba_ray.runs.prepared import Outline


class ClientActor:
    """Imports late and starts importing at once, so that actors warm up while the driver still starts."""

    def __init__(self, threads: int, device: str, caps: Mapping[int, int], context: int, planned: str = ""):
        """`caps`: bytes that PyTorch may take of the GPU for a client (none: any number), beside the CUDA context's;
        `planned`: the GPU that they were packed for."""
        import torch
        import transformers.modeling_utils  # noqa: F401

        import zorba_ray.runs.prepare  # noqa: F401

        torch.set_num_threads(threads)
        self._device, self._caps, self._context, self._planned = device, caps, context, planned
        self._host: Any = None
        self._offloads = False

    def read(self, config: Config) -> tuple[Base, Outline]:
        """Model and data of the run, read by one actor for all: the base stays in the object store."""
        from zorba_ray.runs.prepare import read

        return read(config)

    def stand(self) -> Standing:
        """Where it stands, answered as soon as there is room for it."""
        from zorba_ray.runs.summary import cpu_model

        return Standing(os.getpid(), str(ray.get_runtime_context().get_node_id()), platform.node(), cpu_model())

    def setup(self, base: Base, offloads: bool, hidden: int) -> Standing:
        """Build the model from the weights in the object store. With `offloads`, blocks that a client does not tune
        stay in host memory; `hidden` bounds the bytes of hidden states."""
        from zorba_ray.runs.prepare import build_host

        self._refuse_another_gpu()
        self._host = None  # of an earlier run: its memory is wanted
        blocks = range(len(base.header.blocks)) if offloads else ()
        runtime = replace(base.config.runtime, hidden_memory=f"{hidden} B")
        base = replace(base, config=replace(base.config, runtime=runtime))
        self._host, self._offloads = build_host(base, self._device, blocks), offloads
        self._memory = Memory(base.config.name, str(ray.get_runtime_context().get_actor_name()))
        return self.stand()

    def _refuse_another_gpu(self) -> None:
        """Budgets were packed by what is free on one GPU: on another they may not fit."""
        from zorba_ray.runtime.devices import identity

        if self._planned and (own := identity()) != self._planned:
            raise ConfigError(f"Ray gave this actor the GPU {own}, and its clients were packed for {self._planned}")

    def apply(self, steps: Sequence[Step], threads: int) -> None:
        """Catch up, on so many threads."""
        self._host.catch_up(steps, threads)

    def weights(self, steps: Sequence[Step]) -> tuple[list[NDArray[np.float32]], str]:
        """Catch up, then the vectors of all blocks, and their digest."""
        self._host.apply(steps)
        return self._host.vectors(), self._host.digest()

    def adopt(self, vectors: Sequence[NDArray[np.float32]], rounds: int, digest: str) -> bool:
        """Take over weights that so many rounds led to; False, and as before, where the digest says they are others."""
        adopted: bool = self._host.adopt(vectors, rounds, digest)
        return adopted

    def probe(
        self, steps: Sequence[Step], plan: RoundPlan, clients: NDArray[np.int64], active: NDArray[np.bool_]
    ) -> Reports:
        """Catch up, then the clients' reports. Under a cap on its memory a client may not fit, and says so."""
        self._memory.observe()
        self._host.apply(steps)
        if not self._caps:
            return Reports.of(self._host.probe(plan, clients.tolist(), active))
        pairs = zip(clients.tolist(), active, strict=True)
        return Reports.of([self._probe_capped(plan, n, row) for n, row in pairs])

    def _probe_capped(self, plan: RoundPlan, client: int, row: NDArray[np.bool_]) -> Report:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        total = torch.cuda.get_device_properties(0).total_memory
        try:
            torch.cuda.set_per_process_memory_fraction(min(1.0, self._caps[client] / total))
            if self._offloads:
                self._host.model.hold(row)
            (report,) = self._host.probe(plan, [client], row[None], alone=True)
        except torch.OutOfMemoryError:
            return nothing_from(client, "out_of_memory")
        finally:  # the cap is this client's: steps and evaluations are no client's
            torch.cuda.set_per_process_memory_fraction(1.0)
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return replace(
            cast("Report", report), measured_bytes=self._context + reserved, allocated_bytes=self._context + allocated
        )

    def memory(self, steps: Sequence[Step], instance: Instance, plan: Plan) -> list[ClassMemory]:
        """What the clients of each budget class hold under a plan, predicted and traced."""
        from zorba_ray.runs.memory import memory_by_class

        self._host.apply(steps)
        host = self._host
        return memory_by_class(host.config, instance, plan, host.model, host.task.max_tokens)

    def evaluate(self, steps: Sequence[Step], batches: Sequence[NDArray[np.int64]]) -> list[Tally]:
        """Catch up, then one tally per batch of test examples."""
        self._host.apply(steps)
        return [self._host.evaluate([batch]) for batch in batches]

    def digest(self, steps: Sequence[Step]) -> str:
        self._host.apply(steps)
        digest: str = self._host.digest()
        return digest
