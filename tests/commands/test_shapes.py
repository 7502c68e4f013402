"""Models of which only the shape is at hand can be asked; a run is refused, or has random weights and says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import transformers as tf
from model.tiny_models import _configs

from zorba_ray.commands.main import main
from zorba_ray.config.published import PUBLISHED
from zorba_ray.config.schema import ModelConfig, TaskConfig
from zorba_ray.playground import MODEL
from zorba_ray.playground.language import LABEL_WORDS
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import load_problem
from zorba_ray.tasks import load_task
from zorba_ray.tasks.load import tokenizer_of

SMALL = ["clients.count=4", "clients.batch=2", "rounds=1", "zo.directions=1", "evaluation.examples=16",
         "task.train_examples=64", "allocation.plan=cyclic",
         "clients.budgets.classes=[{name: all, budget: 1 GiB}]"]  # fmt: skip


def tiny(monkeypatch: pytest.MonkeyPatch, name: str = "opt-125m", family: str = "opt") -> None:
    """Let a published name mean a model of a few thousand parameters."""
    room = {"vocab_size": 300, "architectures": PUBLISHED[name]["architectures"]}
    monkeypatch.setitem(PUBLISHED, name, {**_configs()[family][1].to_dict(), **room})


def test_a_run_on_random_weights_says_so_and_its_model_opens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny(monkeypatch)
    run, export = str(tmp_path / "run"), tmp_path / "export"
    assert main(["run", "--local", "model.config=opt-125m", *SMALL, f"out={run}"]) == 0
    said = capsys.readouterr().out
    assert "the weights of opt-125m are random" in said and "a token is a word of the task's text" in said
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["model"] == "opt-125m"
    assert main(["replay", run, "--export", str(export)]) == 0
    tokenizer = tf.AutoTokenizer.from_pretrained(export)
    model, info = tf.AutoModelForCausalLM.from_pretrained(export, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids = tokenizer("soup was very cold , it was great", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == model.config.bos_token_id and tokenizer.unk_token_id not in ids
    model(input_ids=ids)


@pytest.mark.parametrize("name", ["opt-125m", "roberta-large", "llama-3.2-1b", "qwen3-0.6b"])
def test_tokens_are_words_and_every_label_word_is_one(name: str) -> None:
    model = ModelConfig(config=name)
    task, tokenizer = load_task(TaskConfig(), model, 0), tokenizer_of(TaskConfig(), model)
    assert task.in_words
    assert tokenizer.convert_ids_to_tokens(list(task.label_ids)) == list(LABEL_WORDS)
    first = tokenizer.convert_ids_to_tokens(task.train[0].tolist())
    assert first[0] == "<s>"
    assert ("<mask>" in first) == (name == "roberta-large"), first
    assert tokenizer.unk_token_id not in np.concatenate([task.train.tokens, task.test.tokens])


def test_words_follow_from_the_data_alone() -> None:
    model = ModelConfig(config="opt-125m")
    few, many = (load_task(TaskConfig(train_examples=count), model, 3) for count in (10, 100))
    assert few.label_ids == many.label_ids
    assert {tuple(few.train[i]) for i in range(10)} <= {tuple(many.train[i]) for i in range(100)}


def shape_only(folder: Path) -> str:
    folder.mkdir()
    shutil.copy(MODEL / "config.json", folder)
    return str(folder)


def test_of_a_folder_with_its_config_alone_only_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [f"model.path={shape_only(tmp_path / 'shape')}", *SMALL]
    assert main(["allocate", *keys, "allocation.plan=zorba", "allocation.time_limit=1", "out=plan"]) == 0
    assert "no tokenizer of" in capsys.readouterr().out
    assert main(["run", "--dry-run", "--local", "--json", *keys]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["budgets"][0]["predicted"] < told["budgets"][0]["budget"] and told["flops"] > 0
    for command in (["run", "--local"], ["run"]):
        assert main([*command, *keys]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and "lacks *.safetensors and tokenizer.json" in lines[0] and "allocate" in lines[0]
    assert not (tmp_path / "runs").exists()


def test_an_asked_shape_is_that_of_the_weights(tmp_path: Path) -> None:
    keys = ["allocation.plan=cyclic", "clients.budgets.classes=[{name: all, budget: 1 GiB}]"]
    folder = shape_only(tmp_path / "shape")
    shutil.copy(MODEL / "tokenizer.json", folder)
    shutil.copy(MODEL / "tokenizer_config.json", folder)
    there = load_problem(load_config(None, keys))
    asked = load_problem(load_config(None, [f"model.path={folder}", *keys]), asked=True)
    assert not asked.notes and asked.instance.block_names == there.instance.block_names
    assert np.array_equal(asked.instance.flops, there.instance.flops)
    assert np.array_equal(asked.instance.sizes, there.instance.sizes)


@pytest.mark.parametrize("keys, told", [
    (["model.config=opt-1.3"], "did you mean 'opt-1.3b'"),
    (["model.config=opt-1.3b", "model.path=somewhere"], "one of the two names the model"),
    (["model.config=opt-1.3b", "allocation.gradient=[1, 2]"], "the model has 24 blocks"),
])  # fmt: skip
def test_a_mistake_about_shapes_is_one_line(
    keys: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *keys]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and told in lines[0]
