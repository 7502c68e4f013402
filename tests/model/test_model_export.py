"""A model travels as arrays and comes back with the same bits; a folder that is written opens again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from model.tiny_models import FAMILIES, block_model, make_batch, plain_model, with_keys

from zorba_ray.config.errors import ConfigError
from zorba_ray.engine import CLEAN
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.model import (
    BlockModel,
    HeadSpec,
    ModelSpec,
    build_model,
    export_weights,
    load_model,
    save_adapter,
    save_folder,
)
from zorba_ray.noise import Direction, combine


def losses(model: BlockModel) -> bytes:
    paths = tuple((version,) * len(model.blocks) for version in (CLEAN, ((Direction(0, 0, 0), 1e-2),)))
    return evaluate(model, [Work(make_batch(pad=1), paths)], "gaussian", 1 << 30)[0].losses.tobytes()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_and_a_json_spec_make_the_same_model(family: str, precision: str) -> None:
    model = block_model(family, with_keys(stem=True, head=True, precision=precision))
    spec = ModelSpec.from_json(json.loads(json.dumps(model.spec.to_json())))
    assert spec.config == model.spec.config and spec.head == model.spec.head
    weights = export_weights(model)
    again = build_model(spec, weights)
    assert losses(again) == losses(model)
    assert [(b.name, b.noise_id, b.size, b.matrix_size, b.names) for b in again.blocks] == [
        (b.name, b.noise_id, b.size, b.matrix_size, b.names) for b in model.blocks
    ]


def test_read_only_arrays_serve_many_models_that_move_apart() -> None:
    source = block_model("llama")
    weights = {name: np.array(array) for name, array in export_weights(source).items()}
    for array in weights.values():
        array.flags.writeable = False
    one, two = build_model(source.spec, weights), build_model(source.spec, weights)
    before = losses(two)
    for block in one.blocks:
        combine(block.vector, block.vector, ((Direction(0, 0, 0), 0.1),), block.noise_id, "gaussian")
    assert losses(one) != before and losses(two) == before
    frozen = [m.parts.stem[0].weight for m in (one, two)]
    assert frozen[0].data_ptr() == frozen[1].data_ptr(), "frozen weights are read where they lie"


def test_a_written_folder_opens_as_the_same_model(tmp_path: Path) -> None:
    for family, auto in (("opt", tf.AutoModelForCausalLM), ("llama-tied", tf.AutoModelForCausalLM)):
        model = block_model(family)
        block = model.blocks[0]
        combine(block.vector, block.vector, ((Direction(0, 0, 0), 0.01),), block.noise_id, "gaussian")
        save_folder(model, tmp_path / family)
        plain = auto.from_pretrained(tmp_path / family)
        for name, parameter in model.module.named_parameters():
            assert torch.equal(parameter, plain.get_parameter(name))
        reloaded = load_model(with_keys(path=str(tmp_path / family)), model.spec.head)
        assert losses(reloaded) == losses(model)


def adapted(family: str, frozen: str) -> BlockModel:
    model = block_model(family, with_keys(trainable="lora", frozen=frozen))
    for block in model.blocks:
        combine(block.vector, block.vector, ((Direction(0, 0, 0), 0.1),), block.noise_id, "gaussian")
    return model


@pytest.mark.parametrize("frozen", ["resident", "nf4"])
@pytest.mark.parametrize("family", ["opt", "llama", "gpt2"])
def test_adapters_leave_merged_and_the_folder_lacks_nothing(family: str, frozen: str, tmp_path: Path) -> None:
    model, batch = adapted(family, frozen), make_batch(pad=1)
    save_folder(model, tmp_path)
    plain, info = tf.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        ours = model.module(input_ids=batch.ids, attention_mask=batch.mask).logits
        theirs = plain(input_ids=batch.ids, attention_mask=batch.mask).logits
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    untouched = block_model(family, with_keys(trainable="lora", frozen=frozen)).module
    assert not torch.allclose(untouched(input_ids=batch.ids, attention_mask=batch.mask).logits, theirs, atol=1e-2)


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2"])
def test_adapters_leave_alone_for_peft(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model, batch = adapted(family, "resident"), make_batch(pad=1)
    save_adapter(model, tmp_path)
    theirs = PeftModel.from_pretrained(plain_model(family), str(tmp_path))
    with torch.no_grad():
        expected = model.module(input_ids=batch.ids, attention_mask=batch.mask).logits
        assert torch.equal(theirs(input_ids=batch.ids, attention_mask=batch.mask).logits, expected)
    with pytest.raises(ConfigError, match="no adapters"):
        save_adapter(block_model(family), tmp_path)


def test_a_classifier_folder_brings_its_own_head(tmp_path: Path) -> None:
    plain_model("bert").save_pretrained(tmp_path)
    sentences = ((5, 6), (7, 8))
    model = load_model(with_keys(path=str(tmp_path)), HeadSpec("prototype", sentences=sentences))
    assert model.spec.head.kind == "classifier"
    with pytest.raises(ConfigError, match="2 labels apart, the task has 3"):
        load_model(with_keys(path=str(tmp_path)), HeadSpec("prototype", sentences=(*sentences, (9,))))


def test_user_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        load_model(with_keys(path=str(tmp_path / "nowhere")), HeadSpec("words", label_ids=(1, 2)))
    plain_model("bert-prototype").save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="no language-modelling head"):
        load_model(with_keys(path=str(tmp_path / "bert")), HeadSpec("words", label_ids=(1, 2)))
    module = plain_model("opt")
    torch.save(module.state_dict(), tmp_path / "pytorch_model.bin")
    module.config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["OPTForCausalLM"]}))
    with pytest.raises(ConfigError, match="cannot load"):  # pickled weights are never opened
        load_model(with_keys(path=str(tmp_path)), HeadSpec("words", label_ids=(1, 2)))


def test_weights_that_the_file_lacks_are_not_made_up(tmp_path: Path) -> None:
    module = plain_model("llama")
    state = {k: v for k, v in module.state_dict().items() if k != "model.layers.1.mlp.up_proj.weight"}
    module.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ConfigError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(with_keys(path=str(tmp_path)), HeadSpec("words", label_ids=(1, 2)))


@pytest.mark.real
def test_minilm_with_label_sentences_beats_chance_before_any_training(shared: Path) -> None:
    """shared/README: zero-shot accuracy of the prototype head on SST-2 is 69.3 on all of dev."""
    import csv
    import gzip

    from transformers import AutoTokenizer

    from zorba_ray.model.batch import Batch

    folder = str(shared / "models" / "minilm-l6-fp16")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sentences = [tuple(tokenizer(text).input_ids) for text in ("This movie is terrible.", "This movie is great.")]
    model = load_model(with_keys(path=folder), HeadSpec("prototype", sentences=tuple(sentences)))
    with gzip.open(shared / "data" / "sst2_dev.tsv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[:256]
    right = 0
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        tokens = tokenizer([row["text"] for row in part], padding=True, return_tensors="pt")
        empty = torch.zeros(0, dtype=torch.long)
        targets = torch.tensor([int(row["label"]) for row in part])
        batch = Batch(tokens.input_ids, tokens.attention_mask, empty, empty, targets)
        right += int(evaluate(model, [Work(batch, ((CLEAN,) * 6,))], "gaussian", 1 << 30)[0].correct[0])
    assert 0.6 < right / len(rows) < 0.8
