"""Data of one's own that would train on something else than was meant is refused in one line that says where."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.config import load_config
from zorba_ray.runs.early import check_early
from zorba_ray.tasks import load_task

GOOD = "text,label\nfine,1\nbad,0\n"


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", label: 0}\n', "line 2 is not JSON"),
    ("a.jsonl", '{"text": {"body": "a"}, "label": 1}\n', "line 1: column 'text' is nested"),
    ("a.jsonl", '{"text": "a", "text": "b", "label": 1}\n', "two columns are called 'text'"),
    ("a.csv", "text,label,text\na,1,b\n", "two columns are called 'text'"),
    ("a.csv", "text,label\n", "has no rows"),
    ("a.csv", "text,label\na,1\nb,1\n", "every row has the label '1'"),
])  # fmt: skip
def test_misuse_is_said(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    message = refused(tmp_path, name)
    assert said in message and "task.train" in message


@pytest.mark.parametrize(("columns", "said"), [
    ([("text", ["a", "b"]), ("text", ["c", "d"]), ("label", [0, 1])], "two columns are called 'text'"),
    ([("text", [["a"], ["b"]]), ("label", [0, 1])], "column 'text' is nested"),
    ([("text", [{"body": "a"}, {"body": "b"}]), ("label", [0, 1])], "column 'text' is nested"),
    ([("text", ["a", "b"]), ("label", [None, None])], "column 'label' is empty in every row"),
])  # fmt: skip
def test_misuse_of_parquet_is_said(tmp_path: Path, columns: list[tuple[str, list[object]]], said: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, values = zip(*columns, strict=True)
    pq.write_table(pa.Table.from_arrays([pa.array(each) for each in values], names=names), tmp_path / "a.parquet")
    assert said in refused(tmp_path, "a.parquet")


def refused(folder: Path, train: str, *keys: str) -> str:
    """What is said of training data, already before anything starts."""
    (folder / "test.csv").write_text(GOOD)
    config = load_config(None, [
        "task.name=files", f"task.train={folder}/{train}", f"task.test={folder}/test.csv", "task.text=[text]",
        "task.words=[terrible, great]", "clients.count=2", *keys,
    ])  # fmt: skip
    with pytest.raises(ConfigError) as early:
        check_early(config)
    with pytest.raises(ConfigError) as caught:
        load_task(config.task, config.model, 0)
    assert str(early.value) == str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("wrong", ["terribl", "horribleness", "very kind"])
def test_label_words_that_are_offered_do(wrong: str) -> None:
    config = load_config(None, [f"task.words=[{wrong}, fine]", "task.train_examples=20", "task.test_examples=20"])
    with pytest.raises(ConfigError, match="words that do are ") as caught:
        load_task(config.task, config.model, 0)
    offered = str(caught.value).partition("words that do are ")[2].split(", ")
    assert len(set(offered)) == len(offered) > 1 and (wrong != "terribl" or offered[0] == "terrible")
    for one, other in pairwise(offered):
        words = replace(config.task, words=[one, other])
        assert len(load_task(words, config.model, 0).label_ids) == 2


@pytest.mark.parametrize(("keys", "said"), [
    (["task.prompt=It was"], "made with a column"),
    (["task.words=[' ', great]"], "free of empty words"),
    (["task.labels=[bad, fine, good]"], "one for each of task.labels"),
    (["task.labels=[bad, bad]"], "all different"),
    (["task.name=sst2", "task.train=x.tsv", "task.test=x.tsv", "task.words=[]", "task.labels=[a, b, c]"],
     "has 2 labels"),
])  # fmt: skip
def test_impossible_questions_are_said(tmp_path: Path, keys: list[str], said: str) -> None:
    (tmp_path / "x.tsv").write_text("label\ttext\na\tfine\nb\tbad\n")
    keys = [key.replace("x.tsv", f"{tmp_path}/x.tsv") for key in keys]
    with pytest.raises(ConfigError, match=said):
        check_early(load_config(None, ["task.words=[terrible, great]", *keys]))
