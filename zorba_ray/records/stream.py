"""records/ as a run writes it: small finished Parquet files, each whole or absent whatever happens to the process."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger.whole import whole_file
from zorba_ray.records.schema import SCHEMA, Record, to_table

FOLDER = "records"
PART = re.compile(r"part-(\d+)\.parquet")


class RecordWriter:
    """Collects records and appends them as a new part every `rounds` rounds or `seconds` seconds, and at the end."""

    def __init__(self, folder: Path, rounds: int = 50, seconds: float = 10.0, rows: int = 100_000):
        self._folder, self._rounds, self._seconds, self._rows = folder, rounds, seconds, rows
        folder.mkdir(parents=True, exist_ok=True)
        for torn in folder.glob(".part-*.tmp"):
            torn.unlink()
        self._part = max((number for number, _ in _parts(folder)), default=-1) + 1
        self._waiting: list[pa.Table] = []
        self._waiting_rounds = self._waiting_rows = 0
        self._since = time.monotonic()

    def add(self, records: Sequence[Record], clients: pa.Table | None = None) -> None:
        """Take the records of a finished round or evaluation, and the table of its `clients`; never half of one, or a
        flush would part it."""
        self._waiting += [to_table(records), *([] if clients is None else [clients])]
        self._waiting_rounds += sum(record.kind == "round" for record in records)
        self._waiting_rows += len(records) + (0 if clients is None else clients.num_rows)
        late = time.monotonic() - self._since >= self._seconds
        if self._waiting_rounds >= self._rounds or late or self._waiting_rows >= self._rows:
            self.flush()

    def flush(self) -> None:
        """Put everything on disk now."""
        if self._waiting:
            _write(pa.concat_tables(self._waiting), self._folder / f"part-{self._part:05d}.parquet")
            self._part += 1
            self._waiting, self._waiting_rounds, self._waiting_rows = [], 0, 0
        self._since = time.monotonic()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def truncate(folder: Path, round: int) -> None:
    """Drop what a run resumed at `round` will do again: rounds from `round` on, and evaluations after more rounds.
    Files in which there is none of that are not read.

    The evaluation after exactly `round` rounds belongs to round − 1 and stays; resumed at 0, all is done again.
    """
    for _, path in _parts(folder):
        if round > 0 and last_round(path) < round:
            continue
        table = read_part(path)
        left = kept(table, round)
        if left.num_rows == 0:
            path.unlink()
        elif left.num_rows < table.num_rows:
            _write(left, path)


def kept(table: pa.Table, round: int) -> pa.Table:
    """The rows that `truncate` leaves."""
    done = pc.subtract(table["round"], pc.cast(pc.equal(table["kind"], "evaluation"), pa.int32()))
    return table.filter(pc.less(done, round if round > 0 else -1))


def last_round(path: Path) -> float:
    """The largest number in the column `round` of a file, from its footer; infinity where that does not tell."""
    footer = pq.read_metadata(path)
    groups = [footer.row_group(i).column(SCHEMA.names.index("round")).statistics for i in range(footer.num_row_groups)]
    return max((group.max if group is not None and group.has_min_max else math.inf for group in groups), default=-1)


class DamagedPart(ConfigError):
    """A file of records that cannot be read."""


def read_parts(run_dir: Path) -> Iterator[pa.Table]:
    """The records of a run, part by part, in the order in which they were written."""
    for path in parts(run_dir):
        yield read_part(path)


def parts(run_dir: Path) -> list[Path]:
    """The files of a run's records, in the order in which they were written."""
    return [path for _, path in _parts(run_dir / FOLDER)]


def read_part(path: Path) -> pa.Table:
    """One file, verified: a page that changed on disk does not pass for records."""
    try:
        return pq.read_table(path, schema=SCHEMA, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise DamagedPart(f"{path} is damaged ({why}); to do its rounds again, --resume {path.parents[1]}") from None


def table(run_dir: Path) -> pa.Table:
    """All records of a run."""
    return pa.concat_tables([SCHEMA.empty_table(), *read_parts(run_dir)])


def dataset(run_dir: Path) -> Any:
    """All records of a run as a Ray Dataset (starts Ray where it is not running)."""
    import ray.data

    return ray.data.read_parquet([str(path.resolve()) for _, path in _parts(run_dir / FOLDER)])


def _parts(folder: Path) -> list[tuple[int, Path]]:
    found = [(match, path) for path in folder.glob("part-*.parquet") if (match := PART.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def _write(rows: pa.Table, path: Path) -> None:
    with whole_file(path) as file:
        pq.write_table(rows, file, compression="zstd", write_page_checksum=True)
