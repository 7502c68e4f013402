"""Local files and `datasets` folders give the same table; a broken file is named, with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from zorba_ray.config.errors import ConfigError
from zorba_ray.tasks.read import Table, is_file, parse_hub, read_file, read_hub
from zorba_ray.tasks.registry import Hub

TABLE: Table = {"label": ["1", "0", "1"], "text": ['a "quoted word', "comma, here", "  spaces é 漢  "]}


def write(path: Path, text: str) -> str:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_all_formats_say_the_same(tmp_path: Path, zipped: str) -> None:
    rows = list(zip(TABLE["label"], TABLE["text"], strict=True))
    tsv = "".join(f"{label}\t{text}\n" for label, text in [("label", "text"), *rows])
    quoted = [(label, '"' + text.replace('"', '""') + '"') for label, text in rows]
    csv = "label,text\n" + "".join(f"{label},{text}\n" for label, text in quoted)
    jsonl = "".join(json.dumps({"label": int(label), "text": text}) + "\n" for label, text in rows)
    for name, text in (("a.tsv", tsv), ("a.csv", csv), ("a.jsonl", jsonl)):
        assert read_file(write(tmp_path / (name + zipped), text), "task.train") == TABLE


def test_parquet_and_a_folder_of_datasets(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"label": [1, 0, 1], "text": TABLE["text"]}), tmp_path / "train.parquet")
    assert read_file(str(tmp_path / "train.parquet"), "task.train") == TABLE
    assert not is_file(str(tmp_path))
    hub, split = parse_hub(str(tmp_path), "train")
    assert read_hub(hub, split, "task.train") == TABLE
    renamed = Hub(hub.path, columns={"words": "text"}, labels={"1": "0", "0": "1"})
    assert read_hub(renamed, split, "task.train") == {"label": ["0", "1", "0"], "words": TABLE["text"]}


def test_a_record_of_a_data_set_is_no_column_of_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"label": [1], "text": ["a"], "more": [{"body": ["b"]}]}), tmp_path / "train.parquet")
    assert read_hub(Hub(str(tmp_path)), "train", "task.train") == {"label": ["1"], "text": ["a"]}


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "label,text\n0,a\n")
    with pytest.raises(ConfigError, match=r"task.test: `datasets` cannot load"):
        read_hub(Hub(str(tmp_path)), "test", "task.test")


def test_blank_lines_divide_a_plain_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\n\nOnce upon\n a time\n\n \nthe end")
    assert read_file(path, "task.train") == {"text": ["Once upon a time", "the end"]}


@pytest.mark.parametrize(
    ("source", "hub", "split"),
    [
        ("owner/name", Hub("owner/name"), "train"),
        ("owner/name:validation", Hub("owner/name"), "validation"),
        ("owner/name/config:test", Hub("owner/name", config="config"), "test"),
        ("name", Hub("name"), "train"),
    ],
)
def test_hub_names(source: str, hub: Hub, split: str) -> None:
    assert not is_file(source)
    assert parse_hub(source, "train") == (hub, split)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "label\ttext\n1\tx\n0\n", "line 3 has 1 fields, the header has 2"),
        ("a.jsonl", '{"text": "x"}\n[1]\n', "line 2 is not an object"),
        ("a.jsonl", '{"text": "x"}\n{"words": "y"}\n', "row 2 .* differ in column 'text'"),
        ("a.jsonl", '{"text": \n', "cannot read"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read_file(write(tmp_path / name, text), "task.train")
    assert "\n" not in str(error.value) and str(error.value).startswith("task.train")


def test_a_file_that_is_not_there_or_not_of_a_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*gone\.tsv\.gz"):
        read_file(str(tmp_path / "gone.tsv.gz"), "task.train")
    with pytest.raises(ConfigError, match=r"is none of \.tsv"):
        read_file(write(tmp_path / "a.xlsx", "x"), "task.train")
    (tmp_path / "b.tsv.gz").write_bytes(b"not gzip")
    with pytest.raises(ConfigError, match=r"cannot read"):
        read_file(str(tmp_path / "b.tsv.gz"), "task.train")
