"""The driver actor: prepares a run, solves the allocation, coordinates the rounds and keeps everything on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from zorba_ray.config.schema import Config
from zorba_ray.results.schema import ClientRecord, EvaluationRecord, RoundRecord
from zorba_ray.runtime.launch import launch_pool

Event = RoundRecord | EvaluationRecord | str


class Driver:
    """One run. `prepare` finds every mistake of the user before anything is written; `train` streams what happens."""

    def __init__(self, config: Config, run_dir: str, resume: bool):
        self.config = config
        self.folder = Path(run_dir)
        self.resume = resume
        self._stop = False

    def prepare(self) -> dict[str, str]:
        """Start the client actors, and while they import, load model and data and solve the allocation."""
        from zorba_ray.rounds.prepare import prepare, resume_plan

        self.pool = launch_pool(self.config)
        self.prepared = prepare(self.config, resume_plan(self.folder) if self.resume else None)
        self.pool.check_budgets(self.prepared.budgets)
        return self.prepared.describe()

    def train(self) -> Iterator[Event]:
        from zorba_ray.rounds.run import open_run
