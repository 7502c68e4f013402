"""The allocation over a run: solved before the first round, and anew every so many rounds where that is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation import Instance, Plan, make_plan, rotated
from zorba_ray.config.schema import Config
from zorba_ray.rounds.folder import ALLOCATION, STATISTICS
from zorba_ray.rounds.plan import Report
from zorba_ray.rounds.statistics import Statistics, estimate, probe_plans

if TYPE_CHECKING:
    from zorba_ray.rounds.loop import Backend


@dataclass(frozen=True)
class Allocated:
    """A plan that holds from `round` on, the statistics it was solved for, and the reports they were estimated from."""

    round: int
    plan: Plan
    statistics: Statistics
    reports: list[Report]


class Allocator:
    """Which clients have which blocks in a round. Plans of a resumed run come from its folder, not from a solver."""

    def __init__(self, config: Config, instance: Instance, folder: Path | None = None):
        self.config = config
        self.instance = instance
        self.plans: dict[int, Plan] = {}
        if folder is not None:
            for path in sorted(folder.glob(f"{Path(ALLOCATION).stem}*.json")):
                start = int(path.stem.partition("-")[2] or 0)
                self.plans[start] = Plan.from_json(json.loads(path.read_text(encoding="utf-8")))

    def is_due(self, round: int) -> bool:
        """Whether the plan of this round is still to be solved."""
        every = self.config.allocation.every
        return round not in self.plans and (round == 0 or (every > 0 and round % every == 0))

    def begin(self) -> None:
        """Solve with the statistics of the config, which finds what makes every plan impossible before anything starts;
        where they are to be estimated, the plan that counts is solved when round 0 comes."""
        if not self.plans:
            plan = make_plan(self.instance, self.config.allocation, self.config.seed)
            if self.config.allocation.statistics == "given":
                self.plans[0] = plan

    @property
    def given(self) -> Statistics:
        """The statistics of the config."""
        instance = self.instance
        return Statistics(instance.gradient, instance.batch_variance, instance.client_variance, instance.smoothness)

    def allocate(self, round: int, backend: Backend) -> Allocated:
        """Solve for this round, with statistics estimated at the current weights where that is asked."""
        reports: list[Report] = []
        if self.config.allocation.statistics == "estimated":
            everything = np.ones((self.instance.clients, self.instance.blocks), dtype=np.bool_)
            plans = probe_plans(self.config, round)
            answers = [backend.probe(plan, everything) for plan in plans]
            statistics = estimate(plans, answers, self.instance.clients, self.instance.sizes)
            reports = [report for answer in answers for report in answer]
        else:
            statistics = self.given
        instance = replace(
            self.instance,
            gradient=statistics.gradient,
            batch_variance=statistics.batch_variance,
            client_variance=statistics.client_variance,
            smoothness=statistics.smoothness,
        )
        plan = make_plan(instance, self.config.allocation, self.config.seed)
        self.plans[round] = plan
        return Allocated(round, plan, statistics, reports)

    def plan_in(self, round: int) -> Plan:
        """The plan in force."""
        return self.plans[max(start for start in self.plans if start <= round)]

    def active_in(self, round: int) -> NDArray[np.bool_]:
        """a [N, L] of a round: the plan itself, or its turn among clients of equal budget where it is rotated."""
        matrix = self.plan_in(round).matrix
        if self.config.allocation.rotate:
            return rotated(matrix, self.instance.class_of, round)
        return matrix


def store(allocated: Allocated, folder: Path) -> None:
    """Write a plan and its statistics into the run folder: what a resumed run and the report read."""
    suffix = f"-{allocated.round:06d}" if allocated.round else ""
    path = folder / f"{Path(ALLOCATION).stem}{suffix}.json"
    statistics = {name: values.tolist() for name, values in vars(allocated.statistics).items()}
    body = {"round": allocated.round, "estimated": bool(allocated.reports)} | statistics
    (folder / STATISTICS.format(suffix)).write_text(json.dumps(body), encoding="utf-8")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(allocated.plan.to_json()), encoding="utf-8")
    temporary.replace(path)
