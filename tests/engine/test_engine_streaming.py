"""Two buffers: what is shown next is written beside the computation, nowhere that is read, and is there in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model.tiny_models import block_model, make_batch, with_keys

from zorba_ray.engine import CLEAN, Path, Version, materialise
from zorba_ray.engine.bus import bus_bytes, hidden_bytes
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.engine.generate import generate
from zorba_ray.engine.itinerary import itinerary
from zorba_ray.engine.materialise import Showing
from zorba_ray.model import BlockModel, build_model, export_weights
from zorba_ray.noise import Direction

PLENTY = 1 << 30


def version(p: int, sign: int = 1) -> Version:
    return ((Direction(3, 0, p), sign * 1e-2),)


MOVED = [version(p, sign) for p in range(2) for sign in (1, -1)]
PATHS: dict[str, tuple[Path, ...]] = {  # through a stem that the head is tied to, and three layers
    "all": tuple((v,) * 4 for v in MOVED),
    "one": tuple((CLEAN, CLEAN, v, CLEAN) for v in MOVED),
    "last": tuple((CLEAN, CLEAN, CLEAN, v) for v in MOVED),
    "none": ((CLEAN,) * 4,),
}


class Late:
    """A device that writes as late as it may: until somebody waits, what is being written is no number."""

    waits = True

    def __init__(self, model: BlockModel):
        self.model = model
        self.made: Callable[[], None] | None = None
        self.began = 0

    def ahead(self, write: Callable[[], None]) -> None:
        assert self.made is None, "one at a time"
        memory = [t for scratch in self.model.scratch for t in (scratch.matrices, scratch.others)]
        before = [t.clone() for t in memory]
        write()
        after = [t.clone() for t in memory]
        for now, then in zip(memory, before, strict=True):
            now[now != then] = torch.nan
        self.made = lambda: [now.copy_(then) for now, then in zip(memory, after, strict=True)] and None
        self.began += 1

    def wait(self) -> None:
        assert self.made is not None
        if self.waits:
            self.made()
        self.made = None


def pair(precision: str, active: str) -> tuple[BlockModel, BlockModel]:
    """The same model on its device with one buffer, and streamed through two."""
    resident = block_model("opt", with_keys(precision=precision, stem=True, head=True))
    spec = replace(resident.spec, config=replace(resident.spec.config, active=active, streaming="double"))
    return resident, build_model(spec, export_weights(resident), offloaded=range(4))


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Late]]:
    lanes: list[Late] = []

    class Watched(Showing):
        def __init__(self, model: BlockModel, kind: Any):
            lanes.append(Late(model))
            super().__init__(model, kind, lanes[-1])

    monkeypatch.setattr("zorba_ray.engine.walk.Showing", Watched)
    monkeypatch.setattr("zorba_ray.engine.generate.Showing", Watched)
    yield lanes
    assert all(lane.made is None for lane in lanes), "nothing is left to come when a walk has ended"


def losses(model: BlockModel, paths: tuple[Path, ...], memory: int = PLENTY) -> bytes:
    works = [Work(make_batch(seed=seed), paths) for seed in range(2)]
    return b"".join(outcome.losses.tobytes() for outcome in evaluate(model, works, "gaussian", memory))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("active", ["resident", "offload"])
@pytest.mark.parametrize("which", PATHS)
def test_what_comes_late_is_there_in_time_and_nobody_reads_what_is_written_over(
    precision: str, active: str, which: str, late: list[Late], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slices too, and also where little memory makes the walk come back; stem and layers differ in size."""
    monkeypatch.setattr(materialise, "SLICE", 300)
    resident, streamed = pair(precision, active)
    paths = PATHS[which]
    moved = [any(path[i] != CLEAN for path in paths) for i in range(4)]
    for memory in (PLENTY, 3 * resident.state_bytes(make_batch())):
        streamed.hold(moved)
        assert losses(streamed, paths, memory) == losses(resident, paths, memory)
        assert late[-2].began >= 3 and late[-1].began == 0
    assert all(p.data_ptr() == b.data_ptr() for block in streamed.blocks
               for p, b in zip(block.parameters, block.base, strict=True))  # fmt: skip


def test_an_order_that_is_wrong_shows(late: list[Late], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the check itself: nobody waits; or there is one buffer, which is written while it is read."""
    resident, streamed = pair("float32", "offload")
    expected = losses(resident, PATHS["all"])
    monkeypatch.setattr(Late, "waits", False)
    assert losses(streamed, PATHS["all"]) != expected
    monkeypatch.setattr(Late, "waits", True)
    assert losses(streamed, PATHS["all"]) == expected
    monkeypatch.setattr(Showing, "_other", lambda showing: 0)
    assert losses(streamed, PATHS["all"]) != expected


def test_answers_are_generated_through_two_buffers(late: list[Late]) -> None:
    resident, streamed = pair("float32", "resident")
    prompts = [[5, 9, 2], [7, 3, 3, 11]]
    said = [generate(model, prompts, 4, None, 0, "gaussian") for model in (streamed, resident)]
    assert said[0] == said[1] and late[1].began > 0


def test_an_accident_leaves_nothing_to_come(late: list[Late]) -> None:
    _, streamed = pair("float32", "offload")
    attention = streamed.parts.layers[1].self_attn
    handle = attention.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError("accident")))
    with pytest.raises(KeyError):
        losses(streamed, PATHS["one"])
    handle.remove()
    assert late[0].began > 0


def test_what_computing_hides_is_what_is_written_ahead_of_a_block_that_takes_as_long() -> None:
    """By hand: three layers alike, frozen and streamed; the first has no room beside it and comes before anything is
    computed."""
    keys = with_keys(streaming="double")
    model, row = block_model("opt", keys), np.zeros(3, np.bool_)
    walk = itinerary([(CLEAN,) * 3], model.columns, 2)
    size = 4 * model.blocks[0].size
    flops = [10.0, 100.0, 100.0, 100.0, 10.0]
    assert bus_bytes(model, walk, row) == 3 * size
    assert hidden_bytes(model, walk, row, flops, 100 / size) == 2 * size  # a layer takes as long as a copy
    assert hidden_bytes(model, walk, row, flops, 1000 / size) == 2 * size // 10  # a copy takes ten times as long
    assert hidden_bytes(model, walk, row, flops, 0.0) == 2 * size  # the bus takes no time
    single = block_model("opt", replace(keys, streaming="single"))
    assert hidden_bytes(single, walk, row, flops, 100 / size) == 0
    assert hidden_bytes(model, walk, ~row, flops, 100 / size) == 0  # nothing is streamed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_two_buffers_give_the_same_bits_and_copies_go_on_a_stream_of_their_own(precision: str) -> None:
    start = block_model("opt", with_keys(precision=precision, active="offload", stem=True, head=True))
    arrays, found, streams = export_weights(start), [], []
    for streaming in ("single", "double"):
        spec = replace(start.spec, config=replace(start.spec.config, streaming=streaming))
        model = build_model(spec, arrays, "cuda", offloaded=range(4))
        losses(model, PATHS["all"])  # kernels are compiled, buffers are there
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            found.append([losses(model, PATHS["all"]) for _ in range(20)])
        events: Any = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
        copies = {e.device_resource_id() for e in events if "Memcpy HtoD (Pinned" in e.name() and e.nbytes() > 4096}
        products = {e.device_resource_id() for e in events if "gemm" in e.name().lower()}
        streams.append((copies, products))
    assert set(found[0]) == set(found[1]) and len(set(found[0])) == 1
    (_, computing), (beside, apart) = streams
    assert computing and apart and beside - apart, f"streams of copies and products: {streams}"
