"""What a study will take, arm by arm, before it starts: one client of each arm is really tried in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import parse_clients
from zorba_ray.studies.cells import Cell, final_runs, sweep_runs
from zorba_ray.studies.spec import Study

MUCH = 20_000  # client-rounds, from which a study says what it takes before it starts: to find out is then a trifle


@dataclass(frozen=True)
class Compute:
    """Of all runs of an arm. `why`: it could not be tried, and the numbers that trying gives are 0."""

    label: str
    runs: int
    rounds: int
    client_rounds: int
    flops: float = 0.0  # forward and backward, evaluation left out
    core_seconds: float = 0.0  # of this machine, start and evaluation of every run included
    disk: int = 0  # at most
    why: str = ""


def compute_of(study: Study, cell: Cell) -> Compute:
    """By the pace of one client; sweeps are reckoned to evaluate as often as final runs."""
    base = counted(study, cell)
    config = final_runs(study, cell, cell.rates[0])[0].config
    from zorba_ray.runs.estimate import estimate
    from zorba_ray.runs.prepare import prepare

    try:
        started = time.perf_counter()
        prepared = prepare(config)
        start = time.perf_counter() - started
        found = estimate(config, prepared, 1)
    except ConfigError as error:
        return replace(base, why=str(error))
    share = base.rounds / config.rounds
    seconds = study.cpus * (base.runs * start + share * found.seconds)
    return replace(base, flops=share * found.flops, core_seconds=seconds, disk=int(share * found.disk))


def counted(study: Study, cell: Cell) -> Compute:
    """What the study's file alone tells."""
    runs = [*sweep_runs(study, cell), *final_runs(study, cell, cell.rates[0])]
    rounds, config = sum(run.config.rounds for run in runs), cell.config
    participants = parse_clients(config.participation.clients, config.clients.count)
    return Compute(cell.label, len(runs), rounds, round(rounds * participants))


def is_much(study: Study, cells: Sequence[Cell]) -> bool:
    return sum(counted(study, cell).client_rounds for cell in cells) >= MUCH
