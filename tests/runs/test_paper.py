"""Each published setting starts: on a model of its shape, shrunk in width, with random weights, and on small data."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from zorba_ray.config.load import find_config
from zorba_ray.config.published import PUBLISHED
from zorba_ray.config.shipped import CONFIGS
from zorba_ray.runs.config import ignored, load_config
from zorba_ray.runs.simulate import simulate
from zorba_ray.tasks.registry import KNOWN

PAPER = sorted((CONFIGS / "paper").glob("*.yaml"))
SHAPES = {
    "facebook/opt-125m": "opt-125m", "facebook/opt-350m": "opt-350m", "facebook/opt-1.3b": "opt-1.3b",
    "facebook/opt-2.7b": "opt-2.7b", "facebook/opt-13b": "opt-13b", "FacebookAI/roberta-large": "roberta-large",
    "meta-llama/Llama-3.2-3B": "llama-3.2-3b", "datajuicer/LLaMA-1B-dj-refine-150B": "llama-3.2-1b",
}  # fmt: skip
NARROW = {"hidden_size": 16, "vocab_size": 300, "num_attention_heads": 2, "max_position_embeddings": 80}
OF_FAMILY = {
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16}, "roberta": {"intermediate_size": 32},
    "llama": {"intermediate_size": 32, "num_key_value_heads": 1, "rope_parameters": {"rope_theta": 1e4,
                                                                                  "rope_type": "default"}},
}  # fmt: skip
FAST = {"decomfl-opt125m-sst2"}


def each() -> list[object]:
    """The main one is fast, every fourth slow, and all are begun before a release."""
    marks = [[pytest.mark.slow] if i % 4 == 0 else [pytest.mark.slow, pytest.mark.release] for i in range(len(PAPER))]
    return [
        pytest.param(path, id=path.stem, marks=[] if path.stem in FAST else few)
        for path, few in zip(PAPER, marks, strict=True)
    ]


def data(name: str, folder: Path) -> list[str]:
    """A few rows of a task, with our own columns, as training and as test data."""
    known = KNOWN[name]
    path = folder / "rows.tsv"
    lines = ["\t".join([known.answer or "label", *filter(None, [known.group]), *known.text])]
    for i in range(240 if known.answer else 12 * len(known.classes)):
        words = " ".join(f"w{(i + k) % 17}" for k in range(6))
        first = "w3" if known.answer else str(i % len(known.classes))
        lines.append("\t".join([first, *["g"] * bool(known.group), *[words] * len(known.text)]))
    path.write_text("\n".join(lines) + "\n")
    return [f"task.train={path}", f"task.test={path}"]


def narrow(monkeypatch: pytest.MonkeyPatch, hub: str) -> str:
    """Let the published shape have few numbers: as many blocks, but narrow ones. Special tokens come first."""
    name = SHAPES[hub]
    shape = PUBLISHED[name]
    tokens = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    own = {**shape, **NARROW, **OF_FAMILY[shape["model_type"]], **tokens}
    monkeypatch.setitem(PUBLISHED, name, own)
    return name


def small(config_name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    given = load_config(config_name)
    keys = ["model.path=embedded", f"model.config={narrow(monkeypatch, given.model.path)}", "rounds=1",
            "clients.batch=2", "zo.local_steps=1", "task.train_examples=0", "task.test_examples=0",
            "evaluation.examples=4", "evaluation.every=1", "task.max_tokens=48",
            "task.generate=2",
            *data(given.task.name, folder)]  # fmt: skip
    if given.task.per_class:
        keys.append("task.per_class=4")
    if given.task.validation_examples:
        keys.append("task.validation_examples=4")
    return keys


@pytest.mark.parametrize("path", each())
def test_a_published_setting_starts(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config(path.stem).resolve() == path, "found by its bare name"
    config = load_config(path.stem, small(path.stem, tmp_path, monkeypatch))
    assert config.name == path.stem and not ignored(load_config(path.stem))
    summary = simulate(config, tmp_path / "run")
    assert summary.rounds_done == 1 and math.isfinite(summary.loss_last)


def test_every_number_has_its_source() -> None:
    """In the lines of a file: papers by their numbers above, a source or `ours` behind each number."""
    for path in PAPER:
        text = path.read_text()
        assert yaml.safe_load(text)["name"] == path.stem
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        for line in lines:
            value = line.partition(":")[2].partition("#")[0].strip()
            numbered = value.replace(".", "").replace("e-", "").isdigit() or line.strip() == "classes:"
            assert "#" in line or not numbered, f"{path.name}: {line}"
        assert "arXiv" in text or "base:" in text
        assert max(map(len, text.splitlines())) <= 120
