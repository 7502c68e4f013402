"""Models without numbers say of themselves what those with numbers do; published shapes are as large as published."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import transformers as tf
from model.tiny_models import _configs, attention_of, block_model, head_of, plain_model, with_keys

from zorba_ray.config.published import PUBLISHED
from zorba_ray.config.schema import ModelConfig
from zorba_ray.engine.predict import vram_model
from zorba_ray.engine.shape import model_shape
from zorba_ray.model import BlockModel, HeadSpec, ModelSpec, from_module, hollow_model, load_model
from zorba_ray.model.hollow import HOLLOW, is_hollow
from zorba_ray.model.load import draw_weights, empty_module
from zorba_ray.noise import Direction

PARAMETERS = {  # blocks, millions in each, millions outside them; as published where it is, else by the total
    "opt-125m": (12, 7.088, 40.2), "opt-350m": (24, 12.596, 28.9), "opt-1.3b": (24, 50.36, 107.2),
    "opt-2.7b": (32, 78.68, 133.9), "opt-6.7b": (32, 201.4, 214.3), "opt-13b": (40, 314.6, 267.9),
    "opt-30b": (48, 616.6, 375.1), "roberta-base": (12, 7.088, 39.6), "roberta-large": (24, 12.596, 53.1),
    "llama-3.2-1b": (16, 60.82, 262.7), "llama-3.2-3b": (28, 100.67, 394.0), "llama-3-8b": (32, 218.11, 1050.7),
    "qwen3-0.6b": (28, 15.73, 155.6), "qwen3-1.7b": (28, 50.33, 311.2), "qwen3-4b": (36, 100.93, 389.0),
    "qwen3-8b": (36, 192.95, 1244.7),
}  # fmt: skip
TOTALS = {  # billions, on the models' cards
    "opt-125m": 0.125, "opt-350m": 0.331, "opt-1.3b": 1.316, "opt-2.7b": 2.65, "opt-6.7b": 6.66, "opt-13b": 12.85,
    "opt-30b": 29.97, "roberta-base": 0.125, "roberta-large": 0.355, "llama-3.2-1b": 1.236, "llama-3.2-3b": 3.213,
    "llama-3-8b": 8.03, "qwen3-0.6b": 0.596, "qwen3-1.7b": 1.72, "qwen3-4b": 4.02, "qwen3-8b": 8.19,
}  # fmt: skip


def count(name: str, layers: int) -> int:
    """Parameters of a published shape with so many layers."""
    config = tf.AutoConfig.for_model(**{**PUBLISHED[name], "num_hidden_layers": layers})
    auto = "AutoModelForMaskedLM" if name.startswith("roberta") else "AutoModelForCausalLM"
    with torch.device("meta"):
        module = getattr(tf, auto).from_config(config)
    return sum(parameter.numel() for parameter in module.parameters())


def test_published_shapes_are_as_large_as_published() -> None:
    assert PARAMETERS.keys() == TOTALS.keys() == PUBLISHED.keys()
    for name, (blocks, each, outside) in PARAMETERS.items():
        one, two = count(name, 1), count(name, 2)
        assert PUBLISHED[name]["num_hidden_layers"] == blocks
        assert (two - one) / 1e6 == pytest.approx(each, rel=2e-3), name
        assert (2 * one - two) / 1e6 == pytest.approx(outside, rel=3e-3), name
        assert (one + (blocks - 1) * (two - one)) / 1e9 == pytest.approx(TOTALS[name], rel=5e-3), name


def test_the_blocks_of_a_shape_are_its_layers() -> None:
    model = hollow_model(ModelConfig(config="opt-125m"), HeadSpec("words", label_ids=(3, 4)))
    assert [block.size for block in model.blocks] == [7_087_872] * 12
    assert is_hollow(model.module) and model.head.chained


def hollow(family: str, config: ModelConfig) -> BlockModel:
    auto, transformers_config = _configs()[family]
    attention = attention_of(family)
    with HOLLOW:
        module = getattr(tf, auto).from_config(transformers_config, attn_implementation=attention, dtype=torch.float32)
    spec = ModelSpec(auto, transformers_config.to_dict(), attention, "", config, head_of(family), 0)
    return from_module(module, spec)


@pytest.mark.parametrize("family, keys", [
    ("opt-projected", {"precision": "bfloat16", "frozen": "int8", "stem": True, "head": True}),
    ("llama-tied", {"trainable": "lora", "frozen": "nf4"}),
    ("gemma2", {"trainable": "groups", "groups": ["norm"]}),
    ("bert-prototype", {"head": True}),
])  # fmt: skip
def test_a_hollow_model_has_the_shape_of_the_real_one(family: str, keys: dict[str, object]) -> None:
    """And the same memory."""
    config = with_keys(**keys)
    empty, real = hollow(family, config), block_model(family, config)
    assert empty.head.chained == real.head.chained and empty.mask_bytes == real.mask_bytes
    assert [(b.name, b.noise_id, b.names, b.matrix_size) for b in empty.blocks] == [
        (b.name, b.noise_id, b.names, b.matrix_size) for b in real.blocks
    ]
    assert model_shape(empty, 3, 9) == model_shape(real, 3, 9)
    paths = [(((Direction(0, 0, 0), 1.0),),) * len(real.blocks)] * 2
    needed = [vram_model(model, 3, 9, paths).of(np.ones(len(real.blocks), dtype=bool)) for model in (empty, real)]
    assert needed[0] == needed[1]


@pytest.mark.parametrize("family", ["opt", "llama-tied", "qwen3", "roberta"])
def test_random_weights_begin_as_the_family_does(family: str) -> None:
    auto, config = _configs()[family]
    module = empty_module(auto, config, ModelConfig())
    draw_weights(module, 0)
    usual = getattr(tf, auto).from_config(config)
    ours, theirs = dict(module.named_parameters()), dict(usual.named_parameters())
    assert ours.keys() == theirs.keys(), "tied weights stay tied"
    for name, parameter in ours.items():
        if parameter.dim() < 2:
            assert torch.equal(parameter, theirs[name])
        elif parameter.numel() > 1000:
            assert float(parameter.std()) == pytest.approx(float(theirs[name].detach().std()), rel=0.1)
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, usual.get_buffer(name))


def test_random_weights_are_the_same_bits_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "opt-125m", {**_configs()["opt"][1].to_dict(), "architectures": ["OPTForCausalLM"]})
    digests = []
    for seed in (0, 0, 1):
        model = load_model(ModelConfig(config="opt-125m"), HeadSpec("words", label_ids=(3, 4)), seed=seed)
        digests.append(hashlib.sha256(b"".join(b.vector.numpy().tobytes() for b in model.blocks)).hexdigest())
    assert digests[0] == digests[1] != digests[2]
    assert digests[0][:16] == "12620ca10fc4d94b"


def test_real_models_stay_real_beside_hollow_ones() -> None:
    hollow("opt", with_keys(frozen="int8", precision="bfloat16"))
    model = block_model("opt", with_keys(frozen="int8"))
    few = model.blocks[0].frozen(model.device)[0]
    assert torch.isfinite(few.matrix(torch.float32)).all()
    assert not is_hollow(plain_model("opt"))
