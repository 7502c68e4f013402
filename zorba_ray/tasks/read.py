"""Reading labelled text: local files with the standard library, everything else with `datasets`."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.files import FORMATS, format_of
from zorba_ray.config.hub import data_out_of_reach, trouble
from zorba_ray.tasks.answers import SEPARATOR
from zorba_ray.tasks.registry import Hub

Table = dict[str, list[str]]  # column → one text per row
FIELD_LIMIT = 1 << 30  # characters; the csv module's own limit is 128 Ki


def is_file(source: str) -> bool:
    """Whether a source names a local file, there or not, rather than a data set for `datasets`."""
    return Path(source).is_file() or format_of(Path(source)) in FORMATS


def read_file(source: str, key: str, lists: Collection[str] = ()) -> Table:
    """A local file's columns as text; of Parquet also `lists` within records, see `with_lists`. In .tsv a quote is a
    character like any other, in .csv it encloses a field."""
    path = Path(source).expanduser()
    kind = format_of(path)
    if kind not in FORMATS:
        raise ConfigError(f"{key}: {source} is none of {', '.join(FORMATS)} (or one of these with .gz)")
    try:
        if kind == ".parquet":
            return read_parquet(path, lists)
        with open_text(path) as file:
            if kind == ".txt":
                return {"text": list(paragraphs(file))}
            rows = read_json(file) if kind == ".jsonl" else read_delimited(file, kind)
            return columns_of(rows, source, key)
    except FileNotFoundError:
        raise ConfigError(f"{key}: there is no file {source}") from None
    except (OSError, ValueError, EOFError, csv.Error) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{key}: cannot read {source}: {str(error).splitlines()[0]}") from None


def open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def read_delimited(file: IO[str], kind: str) -> Iterator[dict[str, str]]:
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if kind == ".tsv" else csv.reader(file)
    header = next(reader, [])
    refuse_twice(header)
    for row in reader:
        if len(row) == len(header):
            yield dict(zip(header, row, strict=True))
        elif row:
            raise ValueError(f"line {reader.line_num} has {len(row)} fields, the header has {len(header)}")


def read_json(file: IO[str]) -> Iterator[dict[str, str]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                row = json.loads(line, object_pairs_hook=once_each)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON: {error.msg} (column {error.colno})") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not an object of columns")
            nested = next((name for name, value in row.items() if isinstance(value, dict | list)), None)
            if nested is not None:
                raise ValueError(f"line {number}: column {nested!r} is nested; each column holds a text or a number")
            yield {str(name): as_text(value) for name, value in row.items()}


def refuse_twice(names: list[str]) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"two columns are called {repeated!r}")


def once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    refuse_twice([name for name, _ in pairs])
    return dict(pairs)


def read_parquet(path: Path, lists: Collection[str]) -> Table:
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    refuse_twice(schema.names)
    records = [field.name for field in schema if pyarrow.types.is_nested(field.type)]
    nested = next((name for name in records if name not in {each.partition(".")[0] for each in lists}), None)
    if nested is not None:
        raise ValueError(f"column {nested!r} is nested; each column holds a text or a number")
    data = pyarrow.parquet.read_table(path)
    table = {name: list(map(as_text, data[name].to_pylist())) for name in data.column_names if name not in records}
    return with_lists(table, {name: data[name].to_pylist() for name in records}, lists)


def with_lists(table: Table, records: Mapping[str, Sequence[Any]], lists: Collection[str]) -> Table:
    """With each list within a record, called record.list, as one text: answers that would all do."""
    found = dict(table)
    for name in lists:
        record, _, inner = name.partition(".")
        if record in records:
            found[name] = [SEPARATOR.join(map(as_text, value[inner])) for value in records[record]]
    return found


def paragraphs(file: IO[str]) -> Iterator[str]:
    """Documents of a plain text, which blank lines divide."""
    lines: list[str] = []
    for line in (*file, ""):
        if line.strip():
            lines.append(line.strip())
        elif lines:
            yield " ".join(lines)
            lines = []


def as_text(value: object) -> str:
    """A cell as text; a missing value is empty, and whether that may be is for the column's reader to say."""
    return "" if value is None else str(value)


def columns_of(rows: Iterator[dict[str, str]], source: str, key: str) -> Table:
    table: Table = {}
    for number, row in enumerate(rows):
        if number == 0:
            table = {name: [] for name in row}
        if row.keys() != table.keys():
            odd = sorted(row.keys() ^ table.keys())
            raise ConfigError(f"{key}: row {number + 1} of {source} and its first row differ in column {odd[0]!r}")
        for name, value in row.items():
            table[name].append(value)
    return table


def parse_hub(source: str, split: str) -> tuple[Hub, str]:
    """`owner/name`, `owner/name/config`, either with `:split`; or a folder that `datasets` can read."""
    path, _, given = source.partition(":")
    if Path(path).is_dir():
        return Hub(path), given or split
    owner, _, rest = path.partition("/")
    name, _, config = rest.partition("/")
    return Hub(f"{owner}/{name}" if name else owner, config=config), given or split


def read_hub(hub: Hub, split: str, key: str, lists: Collection[str] = ()) -> Table:
    """A split of a hub data set, its columns under our names and its labels as ours; `lists` as in `with_lists`."""
    import datasets

    away = not Path(hub.path).is_dir() and bool(trouble())
    if away:
        datasets.config.HF_HUB_OFFLINE = True  # what was fetched before is read without waiting for the hub
    try:
        data = datasets.load_dataset(hub.path, hub.config or None, split=split, revision=hub.revision or None)
    except (OSError, ValueError, RuntimeError) as error:
        if away:
            raise data_out_of_reach(key, hub.path) from None
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{key}: `datasets` cannot load {hub.path!r}, split {split!r}: {line}") from None
    plain = [name for name, kind in data.features.items() if isinstance(kind, datasets.Value | datasets.ClassLabel)]
    table = {name: [as_text(value) for value in data[name]] for name in plain}  # nothing trains on a record's brackets
    records = {name: data[name] for name in {each.partition(".")[0] for each in lists} & set(data.column_names)}
    table = with_lists(table, records, lists)
    return with_labels(with_columns(table, hub), hub)


def as_ours(table: Table, hub: Hub) -> Table:
    """A copy of the hub's data has its columns and labels, which become ours; one with our columns stays as it is."""
    theirs = hub.columns.get("label", "label")
    found = with_columns(table, hub)
    return with_labels(found, hub) if theirs in table and theirs not in found else found


def with_columns(table: Table, hub: Hub) -> Table:
    ours = {theirs: name for name, theirs in hub.columns.items() if name not in table}
    return {ours.get(name, name): column for name, column in table.items()}


def with_labels(table: Table, hub: Hub) -> Table:
    return table | {"label": [hub.labels.get(label, label) for label in table["label"]]} if hub.labels else table
