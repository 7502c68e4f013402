"""A run's folder as an object: what the Python API returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import load_config
from zorba_ray.config.schema import Config
from zorba_ray.config.units import parse_clients
from zorba_ray.methods import kind_of
from zorba_ray.records.schema import KIND_OF
from zorba_ray.records.stream import FOLDER, between, table
from zorba_ray.runs.folder import CONFIG
from zorba_ray.runs.lock import is_held
from zorba_ray.runs.plans import read_plans
from zorba_ray.runs.summary import FILE as SUMMARY
from zorba_ray.runs.summary import Summary, read_summary
from zorba_ray.runs.trust import refuse_method_file, refuse_untrusted

if TYPE_CHECKING:
    from ray.data import Dataset

    from zorba_ray.allocation import Plan
    from zorba_ray.model import BlockModel


class Result:
    """A run, from its folder: one that has ended, or one that goes on, in whatever process. Each part is read when it
    is asked for, and is then what lies on disk: at most a second old while rounds go by."""

    def __init__(self, folder: str | Path, trusted: bool = False):
        self.folder = Path(folder)
        self.trusted = trusted  # code that the folder's config names may run
        refuse_method_file(self.folder, trusted)
        self.config: Config = load_config(self.folder / CONFIG, kind_of=kind_of, elsewhere=True)

    def __repr__(self) -> str:
        if self.going_on or not (self.folder / SUMMARY).is_file():
            return f"<run {self.folder}: {'going on' if self.going_on else 'broken off'}>"
        summary = self.summary
        done = f"{summary.rounds_done} of {summary.rounds} rounds"
        accuracy = summary.accuracy_last
        return f"<run {self.folder}: {done}" + (f", test accuracy {accuracy:.3f}>" if accuracy is not None else ">")

    @property
    def going_on(self) -> bool:
        """Whether a process writes to it now."""
        return is_held(self.folder)

    @property
    def summary(self) -> Summary:
        """Its summary; one that goes on has none yet."""
        if self.going_on:
            raise ConfigError(f"{self.folder} goes on: it has its summary when it has ended")
        return read_summary(self.folder)

    @property
    def records(self) -> pa.Table:
        """Every record as one Arrow table: one row per round, client and round, and evaluation (column `kind`), with
        nulls in the columns that a kind does not have."""
        return table(self.folder)

    def table(self, kind: str) -> pa.Table:
        """The records of a kind, `rounds`, `clients` or `evaluations`, as an Arrow table."""
        return pa.concat_tables(between(self.folder / FOLDER, self._known(kind)))

    @property
    def rounds(self) -> Dataset:
        """The records of rounds as a Ray Dataset, without what comes later. Starts Ray where it is not up, as `clients`
        and `evaluations` do."""
        return self._dataset("rounds", live=False)

    @property
    def clients(self) -> Dataset:
        """The records of clients as a Ray Dataset, one row for each round in which they took part."""
        return self._dataset("clients", live=False)

    @property
    def evaluations(self) -> Dataset:
        """The records of evaluations as a Ray Dataset."""
        return self._dataset("evaluations", live=False)

    def follow(self, kind: str = "rounds") -> Dataset:
        """The records of a kind as a Ray Dataset that grows: what there is, and all that comes until the run has ended.
        Take it as a stream, by `iter_rows()`, `iter_batches(batch_size=None)` or `map_batches(…, batch_size=None)`. Ray
        is that of this process, not the run's, which ends with it."""
        return self._dataset(kind, live=True)

    def _dataset(self, kind: str, live: bool) -> Dataset:
        import ray

        from zorba_ray.records.live import dataset
        from zorba_ray.runtime.connect import connect

        self._known(kind)
        if not ray.is_initialized():
            connect("local")
        folder, asked = self.folder.absolute(), self.config.participation.clients
        clients = int(parse_clients(asked, self.config.clients.count))
        return dataset(folder / FOLDER, kind, (lambda: not is_held(folder)) if live else None, clients)

    def _known(self, kind: str) -> str:
        if kind not in KIND_OF:
            raise ConfigError(f"there are no records of kind {kind!r}; there are {', '.join(KIND_OF)}")
        return kind

    @property
    def plan(self) -> Plan:
        """The allocation that was in force in the last round."""
        plans = read_plans(self.folder)
        if not plans:
            raise ConfigError(f"{self.folder} has no allocation yet: it ended before its first round")
        return plans[max(plans)]

    def model(self, rounds: int | None = None) -> BlockModel:
        """The model after the last round, or after `rounds` of them: replayed from the base and the ledger."""
        from zorba_ray.runs.replay import replayed_model

        refuse_untrusted(self.folder, self.trusted)
        return replayed_model(self.folder, rounds).model

    @property
    def report(self) -> Path:
        """The page of the run."""
        return self.folder / "report.html"
