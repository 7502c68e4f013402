"""The allocation over a run: solved before the first round, and anew every so many rounds where that is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation import Instance, Plan, make_plan, rotated
from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, RoundPlan
from zorba_ray.rounds.statistics import Statistics, estimate, gather, missing, probe_plans, refuse_too_few

Probe = Callable[[RoundPlan, NDArray[np.bool_]], Sequence[Report]]  # a round's reports, from its plan and a [N, L]


@dataclass(frozen=True)
class Allocated:
    """A plan that holds from `round` on, the statistics it was solved for, and the reports they were estimated from."""

    round: int
    plan: Plan
    statistics: Statistics
    reports: list[Report]


class Allocator:
    """Which clients have which blocks in a round. `plans` of a resumed run are those that it had, by the round from
    which each holds: no solver decides them again."""

    def __init__(self, config: Config, instance: Instance, plans: Mapping[int, Plan] | None = None):
        self.config = config
        self.instance = instance
        self.plans: dict[int, Plan] = dict(plans or {})

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

    def allocate(self, round: int, probe: Probe) -> Allocated:
        """Solve for this round, with statistics estimated at the current weights where that is asked."""
        reports: list[Report] = []
        notes: list[str] = []
        if self.config.allocation.statistics == "estimated":
            plans = probe_plans(self.config, round)
            answers = [self._probed(plan, probe) for plan in plans]
            reports = [report for answer in answers for _, report in answer]
            scalars = gather(answers, plans[0], self.instance.blocks)
            refuse_too_few(scalars, self.instance.block_names, plans[0], reports)
            statistics = estimate(scalars, self.instance.clients, self.instance.sizes)
            notes = missing(scalars, reports)
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
        plan = replace(plan, messages=(*notes, *plan.messages))
        self.plans[round] = plan
        return Allocated(round, plan, statistics, reports)

    def _probed(self, plan: RoundPlan, probe: Probe) -> list[tuple[NDArray[np.bool_], Report]]:
        """Reports with the blocks that each is about: all at once where the budgets of all who probe hold them, else
        one block after the other, by those whose budgets do."""
        vram, budgets = self.instance.vram, self.instance.budgets
        everything = np.ones(self.instance.blocks, dtype=np.bool_)
        asked = [everything]
        if vram.of(everything) > budgets[list(plan.participants)].min():
            asked = list(np.eye(self.instance.blocks, dtype=np.bool_))
        found = []
        for row in asked:
            needed = float(vram.of(row))
            holding = tuple(n for n in plan.participants if budgets[n] >= needed)
            if holding:
                active = np.broadcast_to(row, (self.instance.clients, self.instance.blocks)).copy()
                found += [(row, report) for report in probe(replace(plan, participants=holding), active)]
        return found

    def plan_in(self, round: int) -> Plan:
        """The plan in force."""
        return plan_in(self.plans, round)

    def active_in(self, round: int) -> NDArray[np.bool_]:
        """a [N, L] of a round."""
        return active_in(self.config, self.plans, self.instance.class_of, round)


def plan_in(plans: Mapping[int, Plan], round: int) -> Plan:
    """Of the plans by the round from which each holds, the one in force."""
    return plans[max(start for start in plans if start <= round)]


def active_in(
    config: Config, plans: Mapping[int, Plan], class_of: NDArray[np.int64], round: int
) -> NDArray[np.bool_]:
    """a [N, L] of a round: the plan itself, or its turn among clients of equal budget (`class_of` [N]) where it is
    rotated."""
    matrix = plan_in(plans, round).matrix
    return rotated(matrix, class_of, round) if config.allocation.rotate else matrix
