"""What is predicted of a client's VRAM, beside what the real code holds, followed on a model without numbers; and that
beside what PyTorch's own tracker sees when the numbers are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice, product
from typing import Any

import numpy as np
import pytest
import torch
from model.tiny_models import block_model, make_batch
from torch.distributed._tools.mem_tracker import MemTracker

from zorba_ray.config.schema import Config
from zorba_ray.engine import count_edges
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.engine.trace import Trace, resident
from zorba_ray.engine.twin import twin_of
from zorba_ray.methods import ZeroOrder, method_of
from zorba_ray.methods.training import train_locally
from zorba_ray.model import BlockModel
from zorba_ray.rounds.draw import plan_round
from zorba_ray.rounds.rehearsal import Rehearsing, Traced, rehearse
from zorba_ray.rounds.vram import vram_of
from zorba_ray.runs.config import load_config

TOKENS = 30
GROUPS = {"opt": "fc1,layer_norm", "llama": "mlp,norm", "bert": "intermediate,LayerNorm"}
RELEASE = [pytest.mark.slow, pytest.mark.release]
GRADIENTS = ("fedavg", "fedit")
ROWS = ((1, 1, 1), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 0))


@dataclass(frozen=True)
class Case:
    method: str
    family: str
    trainable: str
    precision: str = "float32"
    frozen: str = "offload"
    active: str = "resident"
    row: tuple[int, ...] = (1, 0, 1)
    batch: int = 8
    directions: int = 4
    steps: int = 1
    checkpointing: bool = False
    streaming: str = "single"

    def __str__(self) -> str:
        return "-".join(str(part) for part in vars(self).values())

    @property
    def config(self) -> Config:
        keys = [f"method={self.method}", f"clients.batch={self.batch}"]
        own = ("trainable", "precision", "frozen", "active", "streaming")
        keys += [f"model.{name}={getattr(self, name)}" for name in own]
        if self.trainable == "groups":
            keys.append(f"model.groups=[{GROUPS[self.family]}]")
        if self.method in GRADIENTS:
            mine = [f"steps={self.steps}", "epochs=0", f"checkpointing={str(self.checkpointing).lower()}"]
            return load_config(None, [*keys, *(f"{self.method}.{key}" for key in mine)])
        if self.method == "fedspzo":
            keys.append("fedspzo.forks=2")
        return load_config(None, [*keys, f"zo.directions={self.directions}", f"zo.local_steps={self.steps}"])

    @property
    def active_row(self) -> np.ndarray:
        return np.array(self.row, dtype=np.bool_)


COVER = [
    Case("zorba", "opt", "full"),
    Case("zorba", "llama", "full", "bfloat16", "resident", row=(0, 1, 0), steps=2),
    Case("zorba", "bert", "lora", "bfloat16", "offload", row=(0, 0, 1)),
    Case("zorba", "opt", "groups", "float32", "offload", "offload", batch=4),
    Case("zorba", "llama", "full", "float32", "nf4", row=(0, 0, 1)),
    Case("zorba", "bert", "full", "bfloat16", "offload", "offload", row=(1, 1, 1)),
    Case("fedspzo", "opt", "full", "bfloat16", "int8"),
    Case("fedspzo", "llama", "lora", "float32", "nf4", row=(0, 1, 0)),
    Case("fedspzo", "bert", "full", "float32", "resident", row=(0, 0, 1), directions=2),
    Case("decomfl", "opt", "lora", "float32", "offload", "offload", row=(1, 1, 1), steps=2),
    Case("fedkseed", "llama", "groups", "bfloat16", "int8", row=(0, 0, 0)),
    Case("fedzo", "bert", "full", "float32", "offload", row=(0, 0, 0), batch=4),
    Case("zorba", "opt", "full", streaming="double"),
    Case("fedspzo", "llama", "full", "bfloat16", streaming="double"),
    Case("zorba", "bert", "full", "bfloat16", "offload", "offload", row=(1, 1, 1), streaming="double"),
    Case("zorba", "opt", "lora", "bfloat16", "offload", "offload", row=(0, 1, 1), steps=2, streaming="double"),
    Case("zorba", "llama", "full", "bfloat16", "nf4", row=(0, 0, 1), streaming="double"),
    Case("fedavg", "opt", "full", steps=2),
    Case("fedavg", "llama", "groups", frozen="nf4", row=(0, 1, 0)),
    Case("fedit", "bert", "lora", row=(0, 0, 1), steps=2),
    Case("fedit", "opt", "lora", frozen="int8", row=(1, 1, 1)),
    Case("fedavg", "opt", "full", "bfloat16", row=(1, 1, 1), checkpointing=True),
    Case("fedavg", "llama", "full", row=(0, 1, 0), checkpointing=True),
    Case("fedavg", "bert", "full", row=(1, 1, 1), steps=2, checkpointing=True),
    Case("fedit", "llama", "lora", row=(1, 1, 1), checkpointing=True),
]  # fmt: skip


def grid() -> Iterator[Case]:
    """Every family, storage and precision, for methods whose probes differ; rows, batches and directions in turn."""
    zeroth = product(
        ("zorba", "fedspzo", "fedkseed"), GROUPS, ("full", "lora", "groups"),
        ("float32", "bfloat16"), ("resident", "offload", "int8", "nf4"), ("resident", "offload"),
    )  # fmt: skip
    for i, parts in enumerate(zeroth):
        steps, streaming = 2 if i % 4 == 0 else 1, "double" if i % 3 == 2 else "single"
        yield Case(*parts, ROWS[i % 5], 4 if i % 3 else 8, 2 if i % 7 else 4, steps, streaming=streaming)
    trained = product(GROUPS, ("full", "lora", "groups"), ("resident", "int8", "nf4"), ROWS)
    for i, (family, trainable, frozen, row) in enumerate(trained):
        if trainable != "full" or frozen == "resident":
            method = "fedit" if trainable == "lora" and i % 2 else "fedavg"
            yield Case(method, family, trainable, frozen=frozen, row=row, steps=1 + i % 2)


def both(case: Case) -> tuple[float, Traced]:
    """Predicted bytes, and what was traced."""
    model = block_model(case.family, case.config.model)
    predicted = vram_of(case.config, model, TOKENS)
    traced = rehearse(case.config, model, case.active_row, TOKENS)
    return float(predicted.of(case.active_row)), traced


@pytest.mark.parametrize("case", COVER, ids=str)
def test_predicted_is_what_the_code_holds_and_moves(case: Case) -> None:
    """Over the bus go, beside what the host counts, only the mini-batch and the answers."""
    predicted, traced = both(case)
    assert predicted == pytest.approx(traced.peak, rel=0.05)
    if case.method not in GRADIENTS:
        texts, answers = 8 * case.batch * (2 * TOKENS + 3), 2 * case.directions * (8 + case.batch)
        assert 0 < traced.moved - traced.report.bus <= case.steps * (texts + answers)
        assert (traced.report.bus > 0) == (case.frozen == "offload" or case.active == "offload" or few_rest(case))


def few_rest(case: Case) -> bool:
    """Of a whole block in few bits, norms and biases are in host memory."""
    return case.frozen in ("int8", "nf4") and case.trainable == "full" and not all(case.row)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", [pytest.param(11, marks=pytest.mark.slow), pytest.param(1, marks=RELEASE)])
def test_predicted_is_what_the_code_holds_everywhere(step: int) -> None:
    """The whole grid, and every so-many-th case of it."""
    off = {}
    for case in islice(grid(), 0, None, step):
        predicted, traced = both(case)
        if abs(predicted / traced.peak - 1) > 0.05:
            off[str(case)] = predicted / traced.peak
    assert not off


def allocated(run: Callable[[], Any]) -> int:
    """Most bytes that PyTorch's CPU allocator had given out beyond what it had before, during a real run."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events: Any = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()) if event.name() == "[memory]"]
    return max(accumulate(sizes))


def tracked(run: Callable[[], Any], held: Sequence[torch.Tensor]) -> int:
    """Likewise by PyTorch's own tracker, beyond what is `held`. It follows tensors; modules are kept from it, because
    it would hook gradients that nobody asks for."""
    tracker: Any = MemTracker()
    tracker._pre_fw_hook = tracker._post_fw_hook = tracker._pre_bw_hook = tracker._post_bw_hook = lambda *_: None
    tracker.track_external(*held)

    def total(which: str) -> int:
        return int(tracker.get_tracker_snapshot(which)[torch.device("cpu")]["Total"])

    before = total("current")
    with tracker:
        run()
    return total("peak") - before


@pytest.mark.parametrize("family", ["opt", "llama", "bert"])
@pytest.mark.parametrize("trains", [False, True], ids=["probes", "trains"])
def test_the_trace_sees_what_the_allocator_gives_out_and_pytorchs_own_tracker_sees(family: str, trains: bool) -> None:
    config = Case("fedavg" if trains else "zorba", family, "full", frozen="resident", steps=2).config
    model, row, batch = block_model(family, config.model), np.array([False, True, True]), make_batch(16, TOKENS)
    plan = plan_round(config, 0, [0])

    def work(model: BlockModel) -> None:
        if trains:
            train_locally(model, plan, row, [batch, batch])
        else:
            method = method_of(config)
            assert isinstance(method, ZeroOrder)
            evaluate(model, [Work(batch, method.probes(plan, 0, row))], "gaussian", 3 * model.state_bytes(batch))

    work(model)  # what is counted once is counted now
    model.scratch = ()
    twin = twin_of(model)
    with Trace(resident(twin)) as trace:
        before = trace.restart()
        work(twin)
    traced = trace.peak - before
    assert traced == pytest.approx(allocated(lambda: work(model)), rel=0.05)
    model.scratch = ()
    texts = [batch.ids, batch.mask, batch.rows, batch.cols, batch.targets]
    assert traced == pytest.approx(tracked(lambda: work(model), [*resident(model), *texts]), rel=0.05)


def test_what_is_offloaded_is_not_on_the_device() -> None:
    """Adapters, and the weights under them; without an active block little more than the workspace is left."""
    case = Case("zorba", "opt", "lora", row=(0, 0, 0))
    model = block_model("opt", case.config.model)
    (_, away), (_, there) = both(case), both(replace(case, frozen="resident"))
    base = sum(4 * p.numel() for name, p in model.module.named_parameters() if ".layers." in name and p.dim() == 2)
    assert there.peak - away.peak > 0.75 * base


@pytest.mark.parametrize("method", ["fedavg", "fedit"])
def test_what_a_client_that_trains_sends_takes_no_room_where_it_is_only_traced(method: str) -> None:
    """So that a model of any size can be asked about: in host memory one number stands for each of its vectors."""
    case = Case(method, "opt", "lora" if method == "fedit" else "full", row=(1, 0, 1))
    sent = rehearse(case.config, block_model("opt", case.config.model), case.active_row, TOKENS).report.vectors
    assert sent is not None and [vector is not None for vector in sent] == list(case.active_row)
    assert not any(any(vector.strides) for vector in sent if vector is not None)


def test_a_client_alone_shares_every_prefix_that_its_method_shares() -> None:
    """It may hold as many hidden states as its VRAM counts, and no more."""
    case = Case("fedspzo", "opt", "full", directions=4, row=(1, 1, 1))
    config, model = case.config, block_model("opt", case.config.model)
    plan = plan_round(config, 0, [0])
    (report,) = Rehearsing(config, model, 2, 8).probe(plan, [0], case.active_row[None], alone=True)
    method = method_of(config)
    assert isinstance(method, ZeroOrder)
    edges = count_edges(method.probes(plan, 0, case.active_row), model.columns)
    assert report.block_evaluations == sum(edges[1:-1]) < 3 * 2 * 4
