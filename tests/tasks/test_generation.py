"""Answers that are generated: what is trained on, what comes out, how it is judged; and a run of all that."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model.tiny_models import block_model, with_keys

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config, ModelConfig, TaskConfig
from zorba_ray.engine.generate import generate
from zorba_ray.model import HeadSpec
from zorba_ray.playground.language import BAD, GOOD, THINGS
from zorba_ray.records.stream import table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.simulate import simulate
from zorba_ray.tasks import load_task
from zorba_ray.tasks.answers import best, exact, f1, rouge_l
from zorba_ray.tasks.batches import make_batch

WORDS = st.lists(st.sampled_from(["soup", "was", "cold", "wine"]), max_size=6).map(" ".join)


def questions(path: Path, count: int, seed: int) -> str:
    """Extractive ones in the embedded model's own words: what was `cold`? The soup."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        things, kinds = rng.choice(THINGS, 2, replace=False), rng.choice(GOOD + BAD, 2, replace=False)
        text = " , ".join(f"{thing} was {kind}" for thing, kind in zip(things, kinds, strict=True))
        lines.append(json.dumps({"context": text, "question": str(kinds[0]), "answer": str(things[0])}))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def asked(folder: Path, count: int = 24) -> list[str]:
    return ["task.name=files", f"task.train={questions(folder / 'train.jsonl', count, 0)}",
            f"task.test={questions(folder / 'test.jsonl', 8, 1)}", "task.text=[context, question]",
            "task.prompt={context} . it was {question} ,", "task.answer=answer", "task.generate=3"]  # fmt: skip


def task_config(folder: Path) -> TaskConfig:
    return load_config(None, asked(folder)).task


def test_the_loss_is_on_the_answer_only(tmp_path: Path) -> None:
    task = load_task(task_config(tmp_path), ModelConfig(), 0)
    assert (task.kind, task.labels, task.head().kind) == ("generation", (), "language")
    batch = make_batch(task.train, np.arange(5), task)
    assert batch.count == 10, "a word and the end, five times"
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    for i in range(5):
        at = batch.rows == i
        assert task.tokenizer.decode(batch.targets[at], skip_special_tokens=True) == rows[i]["answer"]
        assert torch.equal(batch.targets[at], batch.ids[i, batch.cols[at] + 1])
        assert int(batch.targets[at][-1]) == task.end_id == int(task.train[i][-1])
    assert task.test.references is not None and task.train.references is None
    assert task.train.take(np.array([3, 1])).answers is not None


@pytest.mark.parametrize("keys", [{}, {"precision": "bfloat16"}, {"stem": True, "head": True}])
def test_what_is_generated_is_what_the_model_itself_would(keys: dict[str, object]) -> None:
    """Greedily, token by token, whatever else is in the batch; nothing from the end on."""
    model = block_model("llama", with_keys(**keys), HeadSpec("language"))
    prompts = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16]]
    made = generate(model, prompts, 4, None, 0, "gaussian")
    assert [len(ids) for ids in made] == [4, 4, 4]
    if not keys:
        for prompt, ids in zip(prompts, made, strict=True):
            for k, token in enumerate(ids):
                logits = model.module(input_ids=torch.tensor([[*prompt, *ids[:k]]])).logits[0, -1]
                assert float(logits[token]) == pytest.approx(float(logits.max()), abs=1e-5)
    end = made[1][2]
    stopped = generate(model, prompts, 4, end, 0, "gaussian")
    assert stopped == [ids[: ids.index(end)] if end in ids else ids for ids in made]


@given(WORDS, WORDS)
def test_scores_agree_on_what_is_equal_and_lie_between(a: str, b: str) -> None:
    for score in (f1, rouge_l, exact):
        assert score(a, a) == 1 and 0 <= score(a, b) <= 1 and score(a, b) == score(b, a)
    assert rouge_l(a, b) <= f1(a, b) + 1e-12  # what is in order is also there


def test_scores_of_known_pairs() -> None:
    assert exact("The Soup!", "soup") == 1 and exact("soup", "wine") == 0
    assert f1("the cold soup", "soup") == pytest.approx(2 / 3)
    assert rouge_l("the police killed the gunman", "police kill the gunman") == pytest.approx(6 / 9)
    assert best(f1, "wine", "soup\x1fwine") == 1


def test_what_cannot_be_generated_is_said(tmp_path: Path) -> None:
    config = task_config(tmp_path)
    config.max_tokens = 3
    with pytest.raises(ConfigError, match=r"task.generate is 3, and all of an example may have 3"):
        load_task(config, ModelConfig(), 0)
    (tmp_path / "test.jsonl").write_text('{"context": "a", "question": "b", "answer": " "}\n')
    config.max_tokens = 40
    with pytest.raises(ConfigError, match=r"task.test: row 1 has no answer"):
        load_task(config, ModelConfig(), 0)


def run(folder: Path, *keys: str, presets: tuple[str, ...] = ()) -> tuple[Config, list[dict[str, object]]]:
    small = ["clients.count=3", "clients.batch=4", "evaluation.every=1", "allocation.plan=full",
             "clients.budgets.classes=[{name: all, budget: 64 MiB}]"]  # fmt: skip
    config = load_config(None, [*asked(folder), *small, *keys], more=presets)
    summary = simulate(config, folder / "run")
    rows = [row for row in table(folder / "run").to_pylist() if row["kind"] == "evaluation"]
    assert summary.score == rows[-1]["score"]
    return config, rows


def test_extractive_questions_are_one_config_away_from_fedspzo_with_qlora(tmp_path: Path) -> None:
    """FedSPZO over adapters on weights in four bits: prompts, answers, generation and scores, to the end."""
    _, rows = run(tmp_path, "rounds=1", "zo.directions=4", "model.lora.targets=[q_proj, v_proj]",
                  presets=("fedspzo_qlora",))  # fmt: skip
    assert len(rows) == 2
    for row in rows:
        assert math.isfinite(row["loss"]) and 0 <= row["accuracy"] <= row["score"] <= 1 and row["examples"] == 8


@pytest.mark.slow
def test_answers_are_learnt(tmp_path: Path) -> None:
    """By gradients, which are quick: from nothing to more than a guess of the thing."""
    _, rows = run(tmp_path, "method=fedavg", "fedavg.epochs=4", "rounds=6", "evaluation.every=6", "step.lr=3e-3",
                  "model.stem=true", "model.head=true")  # fmt: skip
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
