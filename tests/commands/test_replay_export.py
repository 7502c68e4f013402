"""What `zorba-ray replay` writes opens in transformers and peft as the model that the run ended with: the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers as tf
from safetensors.torch import load_file
from torch import Tensor

from zorba_ray.commands.main import main
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ModelConfig
from zorba_ray.engine.plain import plain_loss
from zorba_ray.model import HeadSpec, hollow_model, save_adapter
from zorba_ray.model.batch import Batch
from zorba_ray.model.quantise import Bits, quantise
from zorba_ray.playground import MODEL
from zorba_ray.playground.pretrain import build_tokenizer
from zorba_ray.runs.config import load_config
from zorba_ray.runs.replay import replayed_model
from zorba_ray.tasks import load_task
from zorba_ray.tasks.batches import make_batch

SMALL = [
    "rounds=2", "clients.count=2", "clients.batch=4", "zo.directions=2", "evaluation.examples=8", "evaluation.every=2",
    "task.train_examples=32", "allocation.plan=full", "clients.budgets.classes=[{name: all, budget: 64 MiB}]",
    "step.lr=1e-2", "guard.loss_multiple=100",
]  # fmt: skip
LORA = ["model.trainable=lora", "step.lr=0.1"]
KINDS = {
    "full": [],
    "full-nf4": ["model.frozen=nf4", "allocation.plan=one_each"],
    "stem+head": ["model.stem=true", "model.head=true"],
    "bfloat16": ["model.precision=bfloat16"],
    "lora": LORA,
    "int8": [*LORA, "model.frozen=int8"],
    "nf4": [*LORA, "model.frozen=nf4"],
    "groups": ["model.trainable=groups", "model.groups=[layer_norm, bias]"],
    "fedit": ["method=fedit", "fedit.epochs=0", "fedit.steps=2", "step.lr=1e-2"],
}


def ran(folder: Path, *keys: str) -> tuple[Path, float, Batch, list[int]]:
    """A run's folder, and the loss of its last model on a batch; the batch, and the tokens of its label words."""
    run = folder / "run"
    assert main(["run", "--local", *SMALL, *keys, f"out={run}"]) == 0
    config = load_config(run / "config.yaml")
    task = load_task(config.task, config.model, config.seed)
    batch = make_batch(task.test, np.arange(16), task)
    made = replayed_model(run)
    with torch.no_grad():
        loss = float(plain_loss(made.model, batch))
        assert abs(loss - float(plain_loss(replayed_model(run, 0).model, batch))) > 1e-4, "the run changed the model"
    return run, loss, batch, list(task.label_ids)


@torch.no_grad()
def label_loss(model: Any, batch: Batch, words: list[int]) -> float:
    """Of a plain causal model: cross-entropy over the label words at the answer."""
    logits = model.eval()(input_ids=batch.ids, attention_mask=batch.mask).logits
    return float(F.cross_entropy(logits[batch.rows, batch.cols][:, words].double(), batch.targets))


FAST = {"bfloat16", "nf4"}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k in FAST else pytest.mark.slow) for k in KINDS])
def test_an_exported_folder_opens_with_the_same_loss(kind: str, tmp_path: Path) -> None:
    run, loss, batch, words = ran(tmp_path, *KINDS[kind])
    export = tmp_path / "export"
    assert main(["replay", str(run), "--export", str(export)]) == 0
    model, info = tf.AutoModelForCausalLM.from_pretrained(export, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert label_loss(model, batch, words) == pytest.approx(loss, abs=1e-5)
    ours, theirs = (tf.AutoTokenizer.from_pretrained(folder) for folder in (MODEL, export))
    text = "soup was very cold , bed was not hard . it was great"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]


@pytest.mark.parametrize("kind", [pytest.param("lora", marks=pytest.mark.slow), "nf4"])
def test_an_adapter_folder_opens_over_the_base_with_the_same_loss(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftConfig, PeftModel

    run, loss, batch, words = ran(tmp_path, *KINDS[kind])
    adapter = tmp_path / "adapter"
    assert main(["replay", str(run), "--adapter", str(adapter)]) == 0
    said = capsys.readouterr().out
    config = PeftConfig.from_pretrained(str(adapter))
    base = tf.AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path)
    if kind == "nf4":  # what the adapters were trained over
        assert "over weights in nf4" in said
        assert label_loss(PeftModel.from_pretrained(base, str(adapter)), batch, words) != pytest.approx(loss, abs=1e-5)
        base = tf.AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path)
        for layer in base.model.decoder.layers:
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    module.weight.data = in_few_bits(module.weight.data, "nf4")
    assert label_loss(PeftModel.from_pretrained(base, str(adapter)), batch, words) == pytest.approx(loss, abs=1e-5)


def in_few_bits(weight: Tensor, kind: Bits) -> Tensor:
    return quantise(weight, kind).matrix(torch.float32)


def test_an_encoder_with_its_prototype_head_opens_with_the_same_loss(tmp_path: Path) -> None:
    tokenizer, base = build_tokenizer(), tmp_path / "base"
    config = tf.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=64, pad_token_id=1,
    )
    torch.manual_seed(0)
    tf.BertModel(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    keys = [f"model.path={base}", "model.head=true", "task.words=[it was terrible, it was great]"]
    run, loss, batch, _ = ran(tmp_path, *keys)
    export = tmp_path / "export"
    assert main(["replay", str(run), "--export", str(export)]) == 0
    model, info = tf.AutoModel.from_pretrained(export, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    head = load_file(export / "prototype.safetensors")
    with torch.no_grad():
        hidden = model.eval()(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        weight = batch.mask[..., None].float()
        embedding = F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)
        logits = 20 * embedding @ head["weight"].T + head["bias"]  # as docs/models.md says
        assert float(F.cross_entropy(logits.double(), batch.targets)) == pytest.approx(loss, abs=1e-5)
    assert len(tf.AutoTokenizer.from_pretrained(export)) == len(tokenizer)


def test_adapters_over_random_weights_have_no_base(tmp_path: Path) -> None:
    model = hollow_model(ModelConfig(config="opt-125m", trainable="lora"), HeadSpec("words", label_ids=(3, 4)))
    with pytest.raises(ConfigError, match="random"):
        save_adapter(model, tmp_path)
