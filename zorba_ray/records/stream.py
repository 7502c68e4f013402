"""records/ as a run writes it: `kind=K/rounds=A-B/part.parquet`, small finished files, each whole or absent whatever
happens to the process.

A file holds the rows of one kind of rounds A to B, and of a kind no two files share a round, but where several were
joined into one: what lies within another's rounds is superseded, and is about to go. Of a round the clients are written
first and the round last, so that where a round is, its clients are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger.whole import whole_file
from zorba_ray.records.schema import KIND_OF, MARK, VERSION, Record, narrowed, schema_of, to_table, widened

FOLDER = "records"
NAME = "part.parquet"
PLACE = re.compile(r"rounds=(\d+)-(\d+)")
FEW = 2**20  # bytes, below which a file of an earlier sitting is one to be joined
MANY = 64  # small files, that are joined into one


@dataclass(frozen=True)
class Part:
    """A file with the rows of one kind of rounds `first` to `last`."""

    path: Path
    kind: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """As it is called within the run's folder."""
        return f"{FOLDER}/{self.path.relative_to(self.path.parents[2]).as_posix()}"


class RecordWriter:
    """Collects records and puts them on disk every `rounds` rounds, `seconds` seconds or `rows` rows, and at the
    end."""

    def __init__(self, folder: Path, rounds: int = 50, seconds: float = 1.0, rows: int = 100_000):
        self._folder, self._rounds, self._seconds, self._rows = folder, rounds, seconds, rows
        folder.mkdir(parents=True, exist_ok=True)
        for torn in folder.glob(f"kind=*/rounds=*/.{NAME}.tmp"):
            torn.unlink()
        self._waiting = Waiting()
        self._small: dict[str, list[Part]] = {}
        for kind in KIND_OF:
            there = parts_in(folder, kind)
            for part in set(every_part(folder, kind)) - set(there):
                remove(part)
            big = [i for i, part in enumerate(there) if part.path.stat().st_size >= FEW]
            self._small[kind] = there[max(big, default=-1) + 1 :]
        self._since = time.monotonic()

    def add(self, records: Sequence[Record], clients: pa.Table | None = None) -> None:
        """Take the records of a finished round or evaluation, and the table of its `clients`; never half of one, or a
        flush would part it."""
        self._waiting.add(records, clients)
        late = time.monotonic() - self._since >= self._seconds
        if self._waiting.rounds >= self._rounds or late or self._waiting.rows >= self._rows:
            self.flush()

    def flush(self) -> None:
        """Put everything on disk now."""
        for kind in KIND_OF:
            if (table := self._waiting.of(kind)).num_rows:
                part = write_part(self._folder, kind, table)
                self._waiting.forget(kind)
                self._keep(part, table.num_rows)
        self._waiting = Waiting()
        self._since = time.monotonic()

    def _keep(self, part: Part, rows: int) -> None:
        """Join small files when they have become many, or where a large one follows."""
        small = self._small[part.kind]
        if rows < self._rows:
            small.append(part)
        if len(small) >= MANY or rows >= self._rows:
            self._small[part.kind] = []
            join(self._folder, small)

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


@dataclass
class Waiting:
    """Records that are not yet on disk."""

    records: list[Record] = field(default_factory=list)
    clients: list[pa.Table] = field(default_factory=list)
    rounds: int = 0
    rows: int = 0

    def add(self, records: Sequence[Record], clients: pa.Table | None) -> None:
        self.records += records
        self.clients += [] if clients is None else [clients]
        self.rounds += sum(record.kind == "round" for record in records)
        self.rows += len(records) + (0 if clients is None else clients.num_rows)

    def of(self, kind: str) -> pa.Table:
        single = narrowed(to_table(each for each in self.records if isinstance(each, KIND_OF[kind])), kind)
        return pa.concat_tables([single, *(self.clients if kind == "clients" else [])])

    def forget(self, kind: str) -> None:
        """They are on disk."""
        self.records = [each for each in self.records if not isinstance(each, KIND_OF[kind])]
        self.clients = [] if kind == "clients" else self.clients


def write_part(folder: Path, kind: str, table: pa.Table) -> Part:
    """A table of one kind as a file, whole or not at all."""
    ends = pc.min_max(table["round"]).as_py()
    first, last = ends["min"], ends["max"]
    path = folder / f"kind={kind}" / f"rounds={first:06d}-{last:06d}" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_file(path) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    except BaseException:
        with suppress(OSError):  # another file of these rounds lies there
            path.parent.rmdir()
        raise
    return Part(path, kind, first, last)


def join(folder: Path, small: Sequence[Part]) -> None:
    """One file from several of one kind that follow one another. Until they are gone, they are superseded by it."""
    if len(small) > 1:
        joined = write_part(folder, small[0].kind, pa.concat_tables([stored(part) for part in small]))
        for part in small:
            if part.path != joined.path:
                remove(part)


def remove(part: Part) -> None:
    part.path.unlink()
    with suppress(OSError):  # something else lies there
        part.path.parent.rmdir()


def truncate(folder: Path, round: int) -> None:
    """Drop what a run resumed at `round` will do again: rounds from `round` on, and evaluations after more rounds.
    Files in which there is none of that are not read.

    The evaluation after exactly `round` rounds belongs to round − 1 and stays; resumed at 0, all is done again.
    """
    for kind in KIND_OF:
        for part in parts_in(folder, kind):
            last = round if kind == "evaluations" and round > 0 else round - 1
            if part.last <= last:
                continue
            if part.first <= last:
                table = stored(part)
                write_part(folder, kind, table.filter(pc.less_equal(table["round"], last)))
            remove(part)


def kept(table: pa.Table, round: int) -> pa.Table:
    """The rows that `truncate` leaves, of a table with all kinds."""
    done = pc.subtract(table["round"], pc.cast(pc.equal(table["kind"], "evaluation"), pa.int32()))
    return table.filter(pc.less(done, round if round > 0 else -1))


class DamagedPart(ConfigError):
    """A file of records that cannot be read."""


def read_parts(run_dir: Path) -> Iterator[pa.Table]:
    """The records of a run in tables with all kinds' columns, file by file: clients, evaluations, then rounds, each in
    the order in which they were written. The run may go on meanwhile."""
    for kind in KIND_OF:
        for table in between(run_dir / FOLDER, kind):
            yield widened(table, kind)


def between(folder: Path, kind: str, after: int = -1, until: int | None = None) -> Iterator[pa.Table]:
    """A kind's records in records/ of rounds later than `after`, to `until`, as they lie there now, file by file; an
    empty table first. A file that was joined with others since it was seen is looked for again."""

    def there() -> list[Part]:
        found = parts_in(folder, kind)
        return [part for part in found if part.last > after and (until is None or part.first <= until)]

    yield schema_of(kind).empty_table()
    left = there()
    while left:
        part = left.pop(0)
        try:
            table = stored(part)
        except FileNotFoundError:
            left = there()
            continue
        wanted: Any = pc.greater(table["round"], after)
        yield table.filter(wanted if until is None else pc.and_(wanted, pc.less_equal(table["round"], until)))
        after = part.last


def parts(run_dir: Path) -> list[Part]:
    """The files of a run's records, kind by kind."""
    return [part for kind in KIND_OF for part in parts_in(run_dir / FOLDER, kind)]


def parts_in(folder: Path, kind: str) -> list[Part]:
    """The files of a kind in records/, in the order of their rounds, without what is superseded."""
    if next(folder.glob("part-*.parquet"), None) is not None:
        raise ConfigError(f"{folder} has the layout of an older zorba_ray, which this version does not read: go on "
                          f"with that one, or do the run again")  # fmt: skip
    found: list[Part] = []
    for part in sorted(every_part(folder, kind), key=lambda part: (part.first, -part.last)):
        if not found or part.last > found[-1].last:
            found.append(part)
    return found


def every_part(folder: Path, kind: str) -> list[Part]:
    found = [(match, path) for path in folder.glob(f"kind={kind}/*/{NAME}")
             if (match := PLACE.fullmatch(path.parent.name))]  # fmt: skip
    return [Part(path, kind, int(match[1]), int(match[2])) for match, path in found]


def read_part(part: Part) -> pa.Table:
    """One file, with the columns of all kinds."""
    return widened(stored(part), part.kind)


def stored(part: Part) -> pa.Table:
    """One file as it is, verified: a page that changed on disk does not pass for records."""
    try:
        table = pq.read_table(part.path, page_checksum_verification=True, partitioning=None)
        version = (table.schema.metadata or {}).get(MARK, b"?").decode()
        if version == str(VERSION):
            return table.cast(schema_of(part.kind))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        why = " ".join(str(error).split())
        run = part.path.parents[3]
        raise DamagedPart(f"{part.path} is damaged ({why}); to do its rounds again, --resume {run}") from None
    raise ConfigError(f"{part.path} has records of version {version}, and this zorba_ray reads version {VERSION}")


def table(run_dir: Path) -> pa.Table:
    """All records of a run, clients, evaluations, then rounds."""
    return pa.concat_tables(read_parts(run_dir))
