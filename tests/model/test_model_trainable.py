"""What a block trains: everything, LoRA adapters, or chosen groups."""

from __future__ import annotations

import pytest
import torch
from model.tiny_models import block_model, make_batch, plain_model, with_keys

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import LoraConfig
from zorba_ray.engine import CLEAN
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.model import BlockModel, build_model, export_weights
from zorba_ray.noise import Direction

FAMILIES = ["opt", "llama", "qwen2", "gpt2", "gpt-neox", "bert", "roberta", "bert-prototype"]


def losses(model: BlockModel, family: str) -> list[float]:
    paths = tuple((version,) * len(model.blocks) for version in (CLEAN, ((Direction(0, 0, 0), 5e-2),)))
    batch = make_batch(pad=1 if family == "roberta" else 0)
    return evaluate(model, [Work(batch, paths)], "gaussian", 1 << 30)[0].losses.tolist()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_begin_as_the_base_model_and_are_all_that_moves(family: str, precision: str) -> None:
    keys = with_keys(trainable="lora", lora=LoraConfig(rank=2, alpha=4.0), precision=precision)
    model = block_model(family, keys)
    assert [block.noise_id for block in model.blocks] == [1, 2, 3]
    for block in model.blocks:
        assert all(".lora_A." in name or ".lora_B." in name for name in block.names)
        assert block.size == block.matrix_size == sum(view.numel() for view in block.base)
        assert any(bool((view != 0).any()) for view in block.base)
    full = block_model(family, with_keys(precision=precision))
    clean, moved = losses(model, family)
    assert clean == pytest.approx(losses(full, family)[0], rel=1e-6 if precision == "float32" else 1e-3)
    assert moved != clean
    assert losses(build_model(model.spec, export_weights(model)), family) == [clean, moved]


def test_adapters_are_those_of_the_attention_unless_named() -> None:
    default = block_model("llama", with_keys(trainable="lora"))
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in default.blocks[0].names}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj"}
    named = block_model("llama", with_keys(trainable="lora", lora=LoraConfig(targets=["up_proj"])))
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in named.blocks[0].names} == {"up_proj"}
    with pytest.raises(ConfigError, match=r"'nothing'; this model has .*'q_proj'"):
        block_model("llama", with_keys(trainable="lora", lora=LoraConfig(targets=["nothing"])))


def test_adapters_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    a = block_model("llama", with_keys(trainable="lora"))
    torch.manual_seed(2)
    b = block_model("llama", with_keys(trainable="lora"))
    assert all(torch.equal(x.vector, y.vector) for x, y in zip(a.blocks, b.blocks, strict=True))
    assert not torch.equal(a.blocks[0].vector, a.blocks[1].vector)


def test_groups_train_what_matches_and_keep_the_block_numbers() -> None:
    model = block_model("llama", with_keys(trainable="groups", groups=[r"layers\.[12]\.mlp"]))
    assert [block.noise_id for block in model.blocks] == [2, 3] and model.columns == [None, None, 0, 1, None]
    assert all(".mlp." in name for block in model.blocks for name in block.names)
    outside = plain_model("llama").model.layers[1].self_attn.q_proj.weight
    before = model.parts.layers[1].self_attn.q_proj.weight.clone()
    assert torch.equal(before, outside)
    losses(model, "llama")
    assert torch.equal(model.parts.layers[1].self_attn.q_proj.weight, before)


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'attnn' matches no parameter"):
        block_model("llama", with_keys(trainable="groups", groups=["mlp", "attnn"]))
    with pytest.raises(ConfigError, match=r"model\.stem=true"):
        block_model("llama", with_keys(trainable="groups", groups=["embed_tokens"]))
