"""The terms of a client's VRAM, from where a model's numbers lie and what a method's paths hold alive.

Storage is counted tensor by tensor; live hidden states are what the trie of the paths needs; the workspace of a stage
is what the engine's own code makes in one visit of it, on the model's hollow twin.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zorba_ray.config.schema import ModelConfig
from zorba_ray.engine.backward import gradients
from zorba_ray.engine.cost import blank_batch, kind_of
from zorba_ray.engine.itinerary import itinerary, live_states
from zorba_ray.engine.materialise import Showing
from zorba_ray.engine.memory import Floats, GradientVram, VramModel, rounded
from zorba_ray.engine.plain import layer as run_layer
from zorba_ray.engine.plain import plain_loss
from zorba_ray.engine.trace import Trace, resident
from zorba_ray.engine.twin import META, few_of, twin_of
from zorba_ray.engine.version import CLEAN, FROZEN, Path, Version
from zorba_ray.model.batch import Batch
from zorba_ray.model.blocks import SLICE, Block
from zorba_ray.model.model import BlockModel, leaves_host_copy, staged, streams_matrices
from zorba_ray.noise import Direction

MOVED: Version = ((Direction(0, 0, 0), 1.0),)


@dataclass
class Stages:
    """What one client's mini-batch takes on the device, in bytes."""

    numbers: int  # of the model, blocks left out
    batch: int = 0  # the mini-batch, and the context that its layers share
    state: int = 0  # one hidden state
    answer: int = 0  # what is kept of one path: its loss, and which answers are right
    visit: list[int] = field(default_factory=list)  # made in a visit of each stage, its result included
    shown: dict[tuple[int, str], int] = field(default_factory=dict)  # made beside the scratch to show a block


def vram_model(
    model: BlockModel, examples: int, tokens: int, paths: Sequence[Path], local_steps: int = 1, context: int = 0
) -> VramModel:
    """The terms for a client that walks the `paths` of a method with all of its blocks active, each row of a[n, l]
    another selection of their versions; `context`: bytes of the device's own."""
    config, columns = model.spec.config, model.columns
    stages = measured(model, examples, tokens)
    states = live_states(paths, columns)
    walks = itinerary(paths, columns, states), itinerary([(CLEAN,) * len(model.blocks)], columns, states)
    full, clean = (peak_of(walk.visits, stages) for walk in walks)
    decoding = max((size for (_, kind), size in stages.shown.items() if kind == "few"), default=0)
    clean = max(clean, stages.state + decoding)
    most = stages.state * max(alive for _, alive in walks[0].visits)

    def buffer(block: Block, kind: str) -> float:
        size = model.buffers * scratch_bytes(block, model.precision) + staging_bytes(block, config)
        return float(size + max(0, most + stages.shown.get((block.index, kind), 0) - full))

    vectors = np.array([rounded(4 * block.size) for block in model.blocks], dtype=np.float64)
    few = np.array([few_bytes(block) for block in model.blocks], dtype=np.float64)
    table = max((rounded(each.levels.nbytes) for block in model.blocks for each in few_of(block)), default=0)
    away = leaves_host_copy(config)
    written = away or model.precision != torch.float32
    own = np.zeros_like(vectors) if config.active == "offload" else (2 if local_steps > 1 else 1) * vectors
    return VramModel(
        fixed=float(context + stages.numbers + table + stages.batch + clean),
        active=own,
        frozen=few if away else vectors,
        scratch=np.array([buffer(block, "moved") for block in model.blocks]),
        transit=np.array([
            buffer(block, "few" if block.bits else "clean") if written else 0.0 for block in model.blocks
        ]),
        awake=float(full - clean),
        parts=parts_of(context, stages, states, full),
        buffers=model.buffers,
    )  # fmt: skip


def gradient_model(
    model: BlockModel, examples: int, tokens: int, state: int, steps: int, context: int = 0, checkpointing: bool = False
) -> GradientVram:
    """The terms of training with gradients; `state` bytes of the optimiser for each trained number. In low precision
    every block also shows a copy in few bits."""
    stages = measured(model, examples, tokens, gradients=True)
    left = moments(model, examples, tokens, checkpointing)
    trained = np.array([block.size for block in model.blocks], dtype=np.float64)
    vectors = np.array([rounded(4 * block.size) for block in model.blocks], dtype=np.float64)
    low = model.precision != torch.float32
    copies = np.array([scratch_bytes(block, model.precision) if low else 0 for block in model.blocks], dtype=np.float64)
    own = np.array([sum(rounded(4 * base.numel()) for base in block.base) for block in model.blocks], dtype=np.float64)
    kept = own * (state / 4)
    nothing = np.zeros_like(trained)
    clean = peak_of(itinerary([(CLEAN,) * len(vectors)], model.columns, 2).visits, stages)
    first = steps == 1  # its state comes with its last gradients
    floor = float(left.beside[1:].min())
    return GradientVram(
        fixed=float(context + stages.numbers + stages.batch + clean),
        active=vectors + copies + (0 if first else kept),
        frozen=vectors + copies,
        scratch=nothing,
        transit=nothing,
        awake=floor - clean,
        parts=parts_of(context, stages, 2, clean),
        first=left.first,
        saved=left.saved,
        passed=left.passed,
        gradients=own,
        stepped=kept if first else nothing,
        beside=left.beside - floor,
        making=left.making - floor,
        again=left.again,
    )


def parts_of(context: int, stages: Stages, states: int, peak: int) -> dict[str, float]:
    """What the terms that no block has consist of; where the workspace is largest, one state is in it."""
    hidden = max(states - 1, 0) * stages.state
    return {"context": float(context), "weights": float(stages.numbers), "batch": float(stages.batch),
            "hidden": float(hidden), "workspace": float(peak - hidden)}  # fmt: skip


def scratch_bytes(block: Block, precision: torch.dtype) -> int:
    if precision == torch.float32:
        return rounded(4 * block.size)
    return rounded(precision.itemsize * block.matrix_size) + rounded(4 * (block.size - block.matrix_size))


def staging_bytes(block: Block, config: ModelConfig) -> int:
    return rounded(4 * min(SLICE, block.matrix_size)) if staged(config) else 0


def few_bytes(block: Block) -> int:
    """What stays on the device of a block that a client does not tune."""
    return sum(rounded(part.nbytes) for few in few_of(block) for part in (few.codes, few.magnitude))


def peak_of(visits: Iterable[tuple[int, int]], stages: Stages) -> int:
    """Most bytes at once of states, answers and workspace."""
    peak = answers = 0
    for stage, alive in visits:
        peak = max(peak, alive * stages.state + answers + stages.visit[stage])
        answers += stages.answer * (stage == len(stages.visit) - 1)
    return peak


def measured(model: BlockModel, examples: int, tokens: int, gradients: bool = False) -> Stages:
    """Every kind of stage, visited once on the hollow twin."""
    with on_twin(model, gradients) as (twin, trace), torch.no_grad():
        stages = Stages(trace.live - sum(rounded(4 * block.size) for block in twin.blocks))
        showing = Showing(twin, "gaussian")
        batch = padded_batch(twin, examples, tokens)
        before = trace.restart()
        batch = batch.to(META)

        def shown(stage: int) -> int:
            block = twin.stages[stage].block
            if block is not None:
                showing.show(block, CLEAN)
            return trace.restart()

        start = shown(0)
        hidden, context = twin.stem(batch)
        stages.state = rounded(hidden.nbytes)
        stages.batch = trace.live - before - stages.state - (start - before - held(batch))
        stages.visit = [trace.peak - start]
        kinds: dict[Hashable, int] = {}
        for index, layer in enumerate(twin.parts.layers):
            kind = kind_of(layer)
            if kind not in kinds:
                start = shown(index + 1)
                out = twin.layer(index, hidden, context)
                kinds[kind] = trace.peak - start
                del out
            stages.visit.append(kinds[kind])
        start = shown(len(twin.stages) - 1)
        answer = twin.head.answer(hidden, batch)
        stages.visit.append(trace.peak - start)
        stages.answer = trace.live - start
        del answer
        showing.base()
        if not gradients:
            stages.shown = shown_beside(twin, trace)
    return stages


def shown_beside(twin: BlockModel, trace: Trace) -> dict[tuple[int, str], int]:
    """What it takes beside the scratch to show each block in each way that this config knows, from host memory if it
    lies there."""
    found: dict[tuple[int, str], int] = {}
    known: dict[Hashable, int] = {}
    streamed = twin.blocks if twin.spec.config.active == "offload" else []
    few = [block for block in twin.blocks if block.bits is not None]
    for kind, version, blocks in (("few", FROZEN, few), ("moved", MOVED, streamed)):
        if blocks:
            twin.hold([kind == "moved"] * len(twin.blocks))
        for block in blocks:
            alike = kind, block.size, block.matrix_size
            if alike not in known:
                if kind == "few":
                    block.few = few_of(block)
                twin.get_scratch(block)
                showing, start = Showing(twin, "gaussian"), trace.restart()
                showing.show(block, version)
                known[alike] = trace.peak - start
                showing.base()
            found[block.index, kind] = known[alike]
    return found


@dataclass(frozen=True)
class Moments:
    """What a forward under autograd leaves, and what its backward takes beside it."""

    first: Floats  # [L] in the first active block
    saved: Floats  # [L] in another active one
    passed: Floats  # [L] in one that is not active, behind one that is
    beside: Floats  # [L + 1]
    making: Floats  # [3, L] most during its forward, in these three roles; the first has its input beside it
    again: Floats  # [3, L] what a layer leaves when the backward computes it once more


def moments(model: BlockModel, examples: int, tokens: int, checkpointing: bool) -> Moments:
    """Every kind of layer, forward, in each of its three roles; and a step with all blocks active, for its peak, to
    which belongs what checkpointing computes again."""
    blocks, columns = len(model.blocks), model.columns
    roles, making, again = np.zeros((3, blocks)), np.zeros((3, blocks)), np.zeros((3, blocks))
    everything = np.ones(blocks, dtype=np.bool_)
    with on_twin(model, True) as (twin, trace):
        with torch.no_grad():
            hidden, context = twin.stem(padded_batch(twin, examples, tokens).to(META))
        state = rounded(hidden.nbytes)
        kinds: dict[tuple[Hashable, int], tuple[int, int, int]] = {}
        for role, (active, asked) in enumerate(((True, False), (True, True), (False, True))):
            with gradients(twin, everything if active else ~everything):
                for index, layer in enumerate(twin.parts.layers):
                    column, kind = columns[index + 1], (kind_of(layer), role)
                    if kind not in kinds:
                        given, start = hidden.detach().requires_grad_(asked), trace.restart()
                        out = run_layer(twin, index, given, context, checkpointing)
                        left, most = trace.live - start, trace.peak - start + (0 if role else state)
                        del out
                        once_more = twin.layer(index, given, context) if checkpointing else None
                        kinds[kind] = left, most, trace.live - start
                        del once_more
                    if column is not None:
                        roles[role, column] += kinds[kind][0]
                        making[role, column] = kinds[kind][1]
                        again[role, column] += kinds[kind][2]
    first, saved, passed = roles
    made = np.array([sum(rounded(4 * base.numel()) for base in block.base) for block in model.blocks])
    waiting = np.concatenate([[0.0, first[0]], first[0] + saved[1:].cumsum()])
    behind = waiting + np.concatenate([made[::-1].cumsum()[::-1], [0.0]])
    behind[1:] += np.concatenate([again[0, :1], again[1, 1:]])
    with on_twin(model, True) as (twin, trace), gradients(twin, everything):
        batch = padded_batch(twin, examples, tokens).to(META)
        start = trace.restart()
        plain_loss(twin, batch, checkpointing).backward()  # type: ignore[no-untyped-call]
        peak = trace.peak - start
    beside = np.full(blocks + 1, peak - behind.max())
    beside[0] = 2 * max(rounded(4 * base.numel()) for block in model.blocks for base in block.base)
    return Moments(first, saved, passed, beside, making, again)


@contextmanager
def on_twin(model: BlockModel, gradients: bool = False) -> Iterator[tuple[BlockModel, Trace]]:
    """The hollow twin as a client's device holds it, with all blocks on it."""
    twin = twin_of(model)
    if streams_matrices(model.spec.config) and not gradients:
        twin.stream()
    with Trace(resident(twin)) as trace:
        yield twin, trace


def padded_batch(model: BlockModel, examples: int, tokens: int) -> Batch:
    """On the CPU; the trace answers that not all of it is text, so masks are made."""
    return blank_batch(model, examples, tokens, "cpu")


def held(batch: Batch) -> int:
    tensors: list[Any] = [batch.ids, batch.mask, batch.rows, batch.cols, batch.targets]
    return sum(rounded(tensor.nbytes) for tensor in tensors if isinstance(tensor, Tensor))
