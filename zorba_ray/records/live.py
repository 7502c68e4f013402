"""Records as Ray Datasets: as they lie on disk now, or live, as the run writes them.

Reader and writer share nothing but the folder, so neither waits for the other, and a reader that dies costs nothing.
Only whole files are ever seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import DataContext, Dataset, Datasource, ReadTask, read_datasource
from ray.data.block import BlockMetadata

from zorba_ray.records.schema import schema_of
from zorba_ray.records.stream import between, parts_in

GLANCE = 0.1  # seconds between two looks at the folder
ROW = 64  # bytes; no row of any kind has less


class Records(Datasource):
    """A kind's records in records/ of a run: those that are there now; or, with `ends`, those and all that follow until
    it says that nobody writes any more, in one read task that delivers each file as it comes."""

    def __init__(self, folder: Path, kind: str, ends: Callable[[], bool] | None):
        super().__init__()  # type: ignore[no-untyped-call]
        self._folder, self._kind, self._ends = folder, kind, ends
        self._lasts = [part.last for part in parts_in(folder, kind)]

    def get_name(self) -> str:
        return f"Records({self._kind})"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        folder, kind, ends = self._folder, self._kind, self._ends
        nothing = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)

        def task(read: Callable[[], Iterator[pa.Table]]) -> ReadTask:
            return ReadTask(read, nothing, schema_of(kind), per_task_row_limit)

        if ends is not None:
            return [task(partial(follow, folder, kind, ends))]
        shares = max(1, min(parallelism, len(self._lasts)))
        cuts = [-1, *(self._lasts[len(self._lasts) * i // shares - 1] for i in range(1, shares + 1) if self._lasts)]
        spans = list(pairwise(cuts)) or [(-1, -1)]
        return [task(partial(between, folder, kind, after, until)) for after, until in spans]


def dataset(folder: Path, kind: str, ends: Callable[[], bool] | None = None, clients: int = 1) -> Dataset:
    """The records of a kind in records/, as in `Records`; of a live one a round has so many `clients`. Its read tasks
    take no CPU from anybody, and Ray holds no block of it back until it is large: what a round brings is enough."""
    context = DataContext.get_current().copy()
    if ends is not None:
        context.target_max_block_size = ROW * (clients if kind == "clients" else 1) // 2
    with DataContext.current(context):
        found: Dataset = read_datasource(Records(folder, kind, ends), num_cpus=0)
        return found


def follow(folder: Path, kind: str, ends: Callable[[], bool]) -> Iterator[pa.Table]:
    """What there is, and what comes, until nobody writes any more."""
    last = -1
    yield schema_of(kind).empty_table()
    while True:
        ended = ends()  # before the last look: what was written just before the end is there
        for table in between(folder, kind, last):
            if table.num_rows:
                last = pc.max(table["round"]).as_py()
                yield table
        if ended:
            return
        time.sleep(GLANCE)
