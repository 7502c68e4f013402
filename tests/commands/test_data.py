"""What `zorba-ray data` says is what a run would find."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.commands.main import main
from zorba_ray.records.stream import table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import load_problem
from zorba_ray.runs.preview import first_of_each
from zorba_ray.runs.simulate import simulate

TINY = [
    "clients.count=5", "clients.batch=2", "task.train_examples=80", "task.test_examples=40", "rounds=1",
    "allocation.plan=cyclic", "zo.directions=1",
]  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, object], str]:
    assert main(["data", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_it_says_what_a_run_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, page = told(capsys, *TINY, "--examples", "3", "--picture", str(tmp_path / "who.svg"))
    config = load_config(None, TINY)
    problem = load_problem(config)
    simulate(config, tmp_path / "run")
    first = next(row for row in table(tmp_path / "run").to_pylist() if row["kind"] == "evaluation")
    assert found["zero_shot"] == {"accuracy": first["accuracy"], "loss": first["loss"]}
    labels = problem.task.train.labels
    assert found["clients"] == [np.bincount(labels[shard], minlength=2).tolist() for shard in problem.shards]
    assert [each["train"] for each in found["labels"]] == np.bincount(labels).tolist()  # type: ignore[attr-defined]
    assert len(found["examples"]) == 3 and found["tokens"]["shortened"] == 0  # type: ignore[arg-type, index]
    assert "</s>" in found["examples"][0]["text"], "as the model sees it"  # type: ignore[index]
    assert f"accuracy {100 * first['accuracy']:.1f} %" in page and "5 clients (dirichlet)" in page
    assert "<svg" in (tmp_path / "who.svg").read_text()


def test_what_is_cut_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    whole, _ = told(capsys, *TINY)
    found, page = told(capsys, *TINY, "task.max_tokens=12")
    before, after = whole["tokens"], found["tokens"]
    assert after["most"] == before["most"] > 12 and after["shortened"] == 80  # type: ignore[index]
    kept = int(load_problem(load_config(None, [*TINY, "task.max_tokens=12"])).task.train.lengths.sum())
    total = int(load_problem(load_config(None, TINY)).task.train.lengths.sum())
    assert after["lost"] == pytest.approx(1 - kept / total)  # type: ignore[index]
    assert "task.max_tokens=12 cuts 80 of 80" in page


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 40))
def test_examples_are_shown_label_by_label(labels: list[int], count: int) -> None:
    shown = first_of_each(np.array(labels), count)
    assert len(shown) == len(set(shown)) == min(count, len(labels))
    seen = [labels[i] for i in shown]
    for label in set(labels):
        for other in set(labels):
            apart = seen.count(label) - seen.count(other)
            assert apart <= 1 or seen.count(other) == labels.count(other), "nobody is ahead of who has more to show"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--examples", "many"], "--examples takes a whole number, not 'many'"),
        (["--picture", "/nowhere/p.png"], "--picture /nowhere/p.png: "),
        (["--picture", "p.nonsense"], "--picture p.nonsense: "),
        (["task.nam=x"], "task.name"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *TINY, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_words_that_the_model_does_not_know_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.csv"
    own.write_text("label,text\npositive,great great\nnegative,terrible unheard\npositive,great\nnegative,terrible\n")
    keys = [f"task.train={own}", f"task.test={own}", "task.text=[text]", "task.words=[terrible,great]"]
    found, page = told(capsys, "task.name=files", *keys, "clients.count=2", "allocation.plan=cyclic", "clients.batch=1")
    assert found["tokens"]["unknown"] == pytest.approx(1 / 10)  # type: ignore[index]
    assert "10.0 % of the tokens stand for words" in page
