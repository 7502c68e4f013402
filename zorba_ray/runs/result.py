"""A run's folder as an object: what the Python API returns."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import load_config
from zorba_ray.config.schema import Config
from zorba_ray.methods import kind_of
from zorba_ray.records.stream import dataset, table
from zorba_ray.runs.folder import CONFIG
from zorba_ray.runs.past import of_kind
from zorba_ray.runs.plans import read_plans
from zorba_ray.runs.summary import Summary, read_summary
from zorba_ray.runs.trust import refuse_method_file, refuse_untrusted

if TYPE_CHECKING:
    from zorba_ray.allocation import Plan
    from zorba_ray.model import BlockModel


class Result:
    """A run that has ended: read from its folder, each part when it is first asked for."""

    def __init__(self, folder: str | Path, trusted: bool = False):
        self.folder = Path(folder)
        self.trusted = trusted  # code that the folder's config names may run
        refuse_method_file(self.folder, trusted)
        self.config: Config = load_config(self.folder / CONFIG, kind_of=kind_of, elsewhere=True)
        self.summary: Summary = read_summary(self.folder)

    def __repr__(self) -> str:
        done = f"{self.summary.rounds_done} of {self.summary.rounds} rounds"
        accuracy = self.summary.accuracy_last
        return f"<run {self.folder}: {done}" + (f", test accuracy {accuracy:.3f}>" if accuracy is not None else ">")

    @cached_property
    def records(self) -> pa.Table:
        """Every record as an Arrow table: one row per round, client and round, and evaluation (column `kind`)."""
        return table(self.folder)

    @property
    def rounds(self) -> pa.Table:
        """The records of rounds."""
        return of_kind(self.records, "round")

    @property
    def clients(self) -> pa.Table:
        """The records of clients, one for each round in which they took part."""
        return of_kind(self.records, "client")

    @property
    def evaluations(self) -> pa.Table:
        """The records of evaluations."""
        return of_kind(self.records, "evaluation")

    def dataset(self) -> Any:
        """Every record as a Ray Dataset; starts Ray where it is not up."""
        return dataset(self.folder)

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
