"""The cost of a forward is what PyTorch's own counter sees in the model's own forward.

The counter does not know the fused attention of CPUs, so the reference runs the same model with attention written out.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model.tiny_models import FAMILIES, _configs, block_model, head_of, make_batch, plain_model, with_keys
from torch.utils.flop_counter import FlopCounterMode

from zorba_ray.config.schema import LoraConfig
from zorba_ray.engine import cost
from zorba_ray.engine.cost import stage_flops
from zorba_ray.engine.plain import plain_loss
from zorba_ray.model import BlockModel, HeadSpec, ModelSpec, from_module
from zorba_ray.model.batch import Batch


def written_out(family: str, trainable: str, head: HeadSpec | None = None) -> BlockModel:
    """The model with attention as plain products."""
    auto, config = _configs()[family]
    module = plain_model(family)
    module.set_attn_implementation("eager")
    keys = with_keys(trainable=trainable, lora=LoraConfig(rank=4))
    return from_module(module, ModelSpec(auto, config.to_dict(), "eager", "", keys, head or head_of(family), 0))


def seen_by_torch(model: BlockModel, batch: Batch) -> list[int]:
    """FLOPs of each stage of a real forward, by the counter as PyTorch has it."""
    counts = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            hidden, context = model.stem(batch)
        counts.append(counter.get_total_flops())
        for index in range(len(model.parts.layers)):
            with FlopCounterMode(display=False) as counter:
                hidden = model.layer(index, hidden, context)
            counts.append(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            model.head.answer(hidden, batch)
        counts.append(counter.get_total_flops())
    return counts


@pytest.mark.parametrize("trainable", ["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stage_flops_are_what_torch_counts(family: str, trainable: str) -> None:
    keys = with_keys(trainable=trainable, lora=LoraConfig(rank=4))
    model, batch = block_model(family, keys), make_batch(5, 11)
    assert stage_flops(model, *batch.ids.shape) == seen_by_torch(written_out(family, trainable), batch)


def test_language_modelling_answers_at_every_token() -> None:
    head = HeadSpec("language")
    ids = make_batch(3, 7).ids
    rows, cols = torch.arange(3).repeat_interleave(6), torch.arange(6).repeat(3)
    batch = Batch(ids, torch.ones_like(ids), rows, cols, ids[rows, cols + 1])
    model = block_model("llama", head=head)
    assert stage_flops(model, 3, 7) == seen_by_torch(written_out("llama", "full", head), batch)


def test_heads_that_are_not_as_wide_as_the_hidden_state() -> None:
    auto, config = _configs()["qwen3"]
    config.head_dim = 24
    module = getattr(__import__("transformers"), auto).from_config(config, attn_implementation="eager")
    spec = ModelSpec(auto, config.to_dict(), "eager", "", with_keys(), head_of("qwen3"), 0)
    model = from_module(module, spec)
    batch = make_batch(2, 6)
    assert stage_flops(model, *batch.ids.shape) == seen_by_torch(model, batch)


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_few_bits_cost_as_many_operations(family: str) -> None:
    low, full = block_model(family, with_keys(precision="bfloat16")), block_model(family)
    assert stage_flops(low, 3, 8) == stage_flops(full, 3, 8)


def test_models_alike_are_counted_once_and_others_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[BlockModel] = []
    count = cost.count_stages
    monkeypatch.setattr(cost, "_counted", {})
    monkeypatch.setattr(cost, "count_stages", lambda model, tokens: asked.append(model) or count(model, tokens))
    first, alike = block_model("opt"), block_model("opt")
    assert stage_flops(first, 2, 5) == stage_flops(alike, 2, 5)
    assert alike not in asked and first in asked
    lora = [block_model("opt", with_keys(trainable="lora", lora=LoraConfig(rank=rank))) for rank in (2, 4)]
    found = [sum(stage_flops(model, 2, 5)) for model in (first, *lora)]
    assert found == sorted(set(found)), "adapters cost more, and larger ones yet more"


def test_counting_leaves_the_model_as_it_was() -> None:
    model, batch = block_model("opt"), make_batch()
    before = plain_loss(model, batch)
    model.flops = None
    model.blocks[0] = replace(model.blocks[0], offloaded=True)
    stage_flops(model, 2, 5)
    assert torch.equal(plain_loss(model, batch), before)
