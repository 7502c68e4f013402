"""Each known task, from a small local copy that is laid out as the hub's data set is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import TaskConfig
from zorba_ray.tasks.load import Rows, describe, few_shot, find_rows
from zorba_ray.tasks.registry import KNOWN

PAIRS = {"premise": ["A man sleeps.", "It rains."], "hypothesis": ["He is awake.", "It is wet."]}
TWO = {"sentence1": ["One.", "Two."], "sentence2": ["First.", "Second."]}
LAID_OUT: dict[str, dict[str, list[object]]] = {  # columns and labels as the data set's card shows them
    "sst2": {"text": ["a fine film", "a dull one"], "label": [1, 0], "label_text": ["positive", "negative"]},
    "ag_news": {"text": ["Shares fell.", "The match ended."], "label": [2, 1]},
    "trec": {"text": ["Who ?", "What does NASA stand for ?"], "coarse_label": [3, 0], "fine_label": [1, 2]},
    "rte": {**TWO, "label": [0, 1], "idx": [0, 1]},
    "snli": {**PAIRS, "label": [2, -1]},
    "mnli": {**PAIRS, "label": [2, 0], "idx": [0, 1]},
    "cb": {**PAIRS, "idx": [0, 1], "label": [1, 0]},
    "boolq": {"question": ["is it", "was it"], "answer": [True, False], "passage": ["It is.", "It was not."]},
    "wic": {"word": ["place", "bank"], **TWO, "start1": [0, 1], "idx": [0, 1], "label": [0, 1]},
    "mrpc": {**TWO, "label": [1, 0], "idx": [0, 1]},
    "cola": {"sentence": ["They drank the pub.", "They left."], "label": [0, 1], "idx": [0, 1]},
    "squad": {
        "id": ["5a", "5b"], "title": ["Soup", "Wine"], "context": ["It was cold.", "It was red."],
        "question": ["What was it?", "Which colour?"],
        "answers": [{"text": ["cold", "cold soup"], "answer_start": [7, 7]}, {"text": ["red"], "answer_start": [7]}],
    },
    "dolly": {"instruction": ["Say hello.", "Sum up."], "context": ["", "It rains."], "response": ["Hello.", "Rain."],
              "category": ["open_qa", "summarization"]},
    "yelp": {"text": ["Bad food.", "Loved it."], "label": [0, 1]},
    "imdb": {"text": ["Bad.", "Good."], "label": [0, 1]},
}
EXPECTED = {"trec": [3, 2], "snli": [2], "boolq": [1, 0], "squad": [0, 0], "dolly": [0, 0]}  # not theirs


def test_every_task_of_the_hub_is_tried() -> None:
    assert set(LAID_OUT) == {name for name, known in KNOWN.items() if known.hub is not None}


@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("name", LAID_OUT)
def test_a_local_copy_is_read_as_the_hubs(name: str, as_folder: bool, tmp_path: Path) -> None:
    for part in ("train", "test"):
        pq.write_table(pa.table(LAID_OUT[name]), tmp_path / f"{part}.parquet")
    train, test = (str(tmp_path if as_folder else tmp_path / f"{part}.parquet") for part in ("train", "test"))
    config = TaskConfig(name=name, train=train, test=test)
    known = describe(config, "")
    (rows, tested), classes = find_rows(config, known)
    assert classes == known.classes
    assert rows.labels.tolist() == tested.labels.tolist() == EXPECTED.get(name, LAID_OUT[name].get("label"))
    for i in range(len(rows.labels)):
        fields = {column: values[i] for column, values in rows.text.items()}
        prompt = known.prompt.format(**fields)
        assert all(text in prompt for text in fields.values()) and any(fields.values())


@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_answers_within_a_record_would_all_do(as_folder: bool, tmp_path: Path) -> None:
    pq.write_table(pa.table(LAID_OUT["squad"]), tmp_path / "train.parquet")
    pq.write_table(pa.table(LAID_OUT["squad"]), tmp_path / "validation.parquet")
    train = str(tmp_path if as_folder else tmp_path / "train.parquet")
    test = f"{tmp_path}:validation" if as_folder else str(tmp_path / "validation.parquet")
    config = TaskConfig(name="squad", train=train, test=test)
    (rows, tested), classes = find_rows(config, describe(config, ""))
    assert classes == () and rows.answers == tested.answers == ["cold\x1fcold soup", "red"]


def test_a_copy_with_our_own_columns_and_labels_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("label\ttext\n2\tWhat does it mean ?\n0\tHow ?\n")
    config = TaskConfig(name="trec", train=str(path), test=str(path))
    (rows, _), _ = find_rows(config, describe(config, ""))
    assert rows.labels.tolist() == [2, 0]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 2**32))
def test_few_shot_takes_as_many_of_each_label(labels: list[int], most: int, seed: int) -> None:
    rows = Rows({"text": [str(i) for i in range(len(labels))]}, np.array(labels), None)
    assert few_shot(rows, 0, seed) is rows
    sizes = [labels.count(label) for label in set(labels)]
    if min(sizes) < most:
        with pytest.raises(ConfigError, match=rf"task\.per_class is {most}, but only \d+ rows"):
            few_shot(rows, most, seed)
        return
    found = few_shot(rows, most, seed)
    assert [found.labels.tolist().count(label) for label in set(labels)] == [most] * len(sizes)
    assert len(set(found.text["text"])) == most * len(sizes)
    assert found.text == few_shot(rows, most, seed).text
