"""Data of one's own that would train on something else than was meant is refused in one line that says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.config import load_config
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
    (tmp_path / "test.csv").write_text(GOOD)
    config = load_config(None, [
        "task.name=files", f"task.train={tmp_path}/{name}", f"task.test={tmp_path}/test.csv", "task.text=[text]",
        "task.words=[terrible, great]",
    ])  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        load_task(config.task, config.model, 0)
    assert said in str(caught.value) and "task.train" in str(caught.value) and "\n" not in str(caught.value)
