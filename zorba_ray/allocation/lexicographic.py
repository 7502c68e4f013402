"""The ε-constraint lexicographic program: each level a HiGHS program for the proof, a search for the exact plan."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zorba_ray.allocation.alternatives import NAMES, alternative
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.enumeration import all_plans, enumerable
from zorba_ray.allocation.feasibility import check, explain
from zorba_ray.allocation.formulation import Formulation, formulate
from zorba_ray.allocation.improve import Improver, within
from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.plan import Level, Plan, describe
from zorba_ray.allocation.solver import NODES, Solved, gap_between
from zorba_ray.allocation.state import State, groups_of_rows, make_groups
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import AllocationConfig
from zorba_ray.engine.memory import Floats, Matrix

GROUPS = 5  # per block: rows that the search handles at once; fewer clients than twice that are searched one by one
LEAST_GROUPS = 160
ROUNDING = 1e-9  # of a limit
CUT_ROUNDS = 15
CUT_TOLERANCE = 1e-4
NODES_OF_UNDERESTIMATE = 100  # more would prove little: what Φ is underestimated by is not in the tree


@dataclass(frozen=True)
class Found:
    """A level's outcome before later levels are bound to it."""

    objective: str
    value: float
    proven: float
    solved: Solved
    used: str
    seconds: float
    rule: Matrix | None  # the simple rule's plan, if f* is its


class Levels:
    """The run through the levels of one instance: `find` and `close` each of them in order, then `finish`."""

    def __init__(self, instance: Instance, config: AllocationConfig, seed: int):
        self.instance, self.config, self.seed = instance, config, seed
        self.bound = Bound(instance)
        self.worst = config.vram == "worst"
        most = max(GROUPS * instance.blocks, LEAST_GROUPS)
        self.groups = make_groups(self.bound, most if instance.clients > 2 * most else 2 * most)
        self.limits: dict[str, float] = {}
        self.levels: list[Level] = []
        self.state: State | None = None
        self.lower = 0.0  # of Φ, over all plans
        self.previous: Floats | None = None  # the last program's solution
        self.candidates = self.starts()
        self.form = self.formulated(self.scales(self.candidates))

    def solve(self) -> Plan:
        for _ in self.config.order:
            self.close(self.find())
        if self.config.order[0] != "convergence":
            loose = self.formulated(self.form.scales)
            self.lower = max(self.prove(loose, "convergence", None).bound, 0.0) * loose.scales["convergence"]
        return self.finish()

    def formulated(self, scales: dict[str, float]) -> Formulation:
        return formulate(self.bound, self.config.formulation, self.worst, scales)

    def find(self) -> Found:
        """Prove and search the next level."""
        began, form, first = time.perf_counter(), self.form, not self.levels
        objective = self.config.order[len(self.levels)]
        solved = self.prove(form, objective, self.previous)
        candidates = dict(self.candidates) if first else {}
        if solved.x is not None:
            candidates["program"] = form.rows(solved.x, self.groups)
            self.previous = solved.x
        improver = Improver(self.bound, self.groups, self.worst, self.seed)
        best = improver.best(objective, self.limits, self.state, candidates)
        if best is None:
            raise ConfigError(explain(self.instance))
        self.state, used = best
        value = self.state.objective(objective)
        ruled, rule, matrix = self.best_rule(objective) if first else (np.inf, "", None)
        if ruled < value:
            value, used = ruled, rule
        proven = min(solved.bound * form.scales[objective], value)
        proven = max(proven, 0.0) if np.isfinite(proven) else proven  # no objective can be less
        if objective == "convergence" and first:
            self.lower = proven
        taken = matrix if used == rule else None
        return Found(objective, value, proven, solved, used, time.perf_counter() - began, taken)

    def close(self, found: Found) -> None:
        """Write the level down and bind the later ones to it."""
        form, objective, value = self.form, found.objective, found.value
        epsilon, limit = self.config.epsilon[len(self.levels)], allowance(self.config, len(self.levels), value)
        self.limits[objective] = limit
        scale = form.scales[objective]
        form.program.row(form.objective(objective), upper=limit / scale * (1 + ROUNDING))
        level = Level(
            objective, value, found.proven, 0.0, found.seconds, epsilon, limit, value, form.name, form.exact[objective],
            found.solved.value * scale, found.solved.gap, found.used,
        )  # fmt: skip
        self.levels.append(settled(level, value))
        assert self.state is not None
        if found.rule is not None and not within(self.state, self.limits):  # ε does not cover what grouping loses
            self.groups, rows = groups_of_rows(self.bound, found.rule)
            self.state = State(self.bound, self.groups, rows, self.worst)

    def branch(self, config: AllocationConfig) -> Levels:
        """The same run with other later levels."""
        other = copy.copy(self)
        other.config, other.limits, other.levels = config, dict(self.limits), list(self.levels)
        other.form = self.form.branch()
        return other

    def finish(self) -> Plan:
        assert self.state is not None
        state, matrix = self.state, self.groups.deal(self.state.rows)
        levels = tuple(settled(level, state.objective(level.objective)) for level in self.levels)
        lower = min(self.lower, state.objective("convergence"))
        return describe("zorba", matrix, self.bound, levels, tuple(self.compare(matrix)), lower)

    def starts(self) -> dict[str, Matrix]:
        """Rows of groups to begin from: the simple rules applied to groups as if each were one client."""
        first = np.unique(self.groups.of, return_index=True)[1]
        small = replace(
            self.instance, budgets=self.groups.budget, class_of=self.groups.unit, weights=self.instance.weights[first],
            coverage=np.ceil(self.instance.coverage / self.groups.size.min()).astype(np.int64), participants=0,
        )  # fmt: skip
        names = NAMES if len(first) == self.instance.clients else ("random", "cyclic", "greedy", "one_each")
        return {name: alternative(name, small, self.seed) for name in names}

    def scales(self, starts: dict[str, Matrix]) -> dict[str, float]:
        """Units in which every objective is about 1."""
        values = [State(self.bound, self.groups, rows, self.worst).objective("convergence") for rows in starts.values()]
        full = np.ones((1, self.instance.blocks), dtype=bool)
        vram = 1.0 if self.worst else float(self.instance.budgets.sum())
        compute = self.instance.clients * float(self.instance.compute(full)[0])
        return {"convergence": min(values) or 1.0, "vram": vram or 1.0, "compute": compute or 1.0}

    def prove(self, form: Formulation, objective: str, start: Floats | None) -> Solved:
        """Minimise the surrogate within the limits: the linear relaxation first, until its tangents hold, then HiGHS's
        branch and bound, twice at most."""
        program, goal = form.program, form.objective(objective)
        left, bound = self.config.time_limit, -np.inf
        solved: Solved | None = None
        if form.relaxation is not None:
            for _ in range(CUT_ROUNDS):
                solved = program.relax(goal, left)
                left, bound = max(left - solved.seconds, 0.05), max(bound, solved.bound)
                if solved.x is None or not form.relaxation.tighten(program, solved.x, CUT_TOLERANCE):
                    break
        if solved is None or any(program.integer):
            nodes = NODES if form.relaxation is None else NODES_OF_UNDERESTIMATE
            solved = program.solve(goal, left, self.config.mip_gap, start, nodes)
            bound = max(bound, solved.bound)
            gap = gap_between(solved.value, bound) if solved.x is not None else np.inf
            solved = replace(solved, bound=bound, gap=gap)
        if solved.status == "infeasible" and not self.levels:
            raise ConfigError(explain(self.instance))
        return solved

    def best_rule(self, objective: str) -> tuple[float, str, Matrix | None]:
        """Large instances are searched in groups: what the simple rules do for the clients themselves, at best."""
        best: tuple[float, str, Matrix | None] = (np.inf, "", None)
        if len(self.groups.size) < self.instance.clients:
            for name, matrix in self.rules.items():
                value = objective_of(self.bound, matrix, objective, self.worst)
                if value < best[0]:
                    best = value, name, matrix
        return best

    @cached_property
    def rules(self) -> dict[str, Matrix]:
        """The simple rules' plans that keep budgets and coverage."""
        plans = {name: alternative(name, self.instance, self.seed) for name in NAMES}
        return {name: matrix for name, matrix in plans.items() if not self.instance.infeasible(matrix)}

    def compare(self, matrix: Matrix) -> list[str]:
        """Say, a line each, which simple rules give this very plan, which are as good, and who tunes nothing."""
        first, messages = self.levels[0], []
        same = [name for name, other in self.rules.items() if (other == matrix).all()]
        if same:
            messages.append(f"the plan is that of {', '.join(same)}")
        values = {name: objective_of(self.bound, other, first.objective, self.worst)
                  for name, other in self.rules.items() if name not in same}  # fmt: skip
        good = [name for name, value in values.items() if value <= first.value * (1 + 1e-6)]
        if good:
            verb = "is" if len(good) == 1 else "are"
            messages.append(f"{', '.join(good)} alone {verb} as good at the first level ({first.objective} "
                            f"{first.value:.6g})")  # fmt: skip
        idle = int((~matrix.any(axis=1)).sum())
        if idle:
            messages.append(
                f"{idle} of {len(matrix)} clients tune nothing: within allocation.epsilon the objectives do without "
                "them; a smaller one keeps more"
            )
        return messages


def settled(level: Level, final: float) -> Level:
    """A level with what the plan came to; a later level's search may have found a better f* in passing."""
    value = min(level.value, final)
    gap = max(value - level.bound, 0.0) / abs(value) if value else 0.0
    return replace(level, final=final, value=value, gap=gap)


def objective_of(bound: Bound, matrix: Matrix, objective: str, worst: bool) -> float:
    """An objective's exact value."""
    instance = bound.instance
    if objective == "convergence":
        return bound.of(matrix).total
    if objective == "compute":
        return float(instance.compute(matrix).sum())
    used = instance.vram.of(matrix)
    return float((used / instance.budgets).max() if worst else used.sum())


def allowance(config: AllocationConfig, level: int, value: float) -> float:
    """What later levels may let an objective rise to."""
    epsilon = config.epsilon[level]
    limit = value * (1 + epsilon) if config.epsilon_kind == "relative" else value + epsilon
    return limit + ROUNDING * abs(value)


def by_enumeration(bound: Bound, config: AllocationConfig) -> Plan:
    """The levels over all plans of a tiny instance."""
    plans = all_plans(bound, config.vram == "worst")
    if len(plans.matrices) == 0:
        raise ConfigError(explain(bound.instance))
    left = np.arange(len(plans.matrices))
    levels = []
    for i, objective in enumerate(config.order):
        began = time.perf_counter()
        values = plans.values[objective]
        least = float(values[left].min())
        limit = allowance(config, i, least)
        last = i == len(config.order) - 1
        left = left[values[left] <= (least * (1 + ROUNDING) if last else limit)]
        seconds = time.perf_counter() - began
        levels.append(Level(objective, least, least, 0.0, seconds, config.epsilon[i], limit, least, "enumeration", True,
                            least, 0.0, "program"))
    chosen = int(left[np.argmin(plans.values["convergence"][left])])
    done = tuple(replace(level, final=float(plans.values[level.objective][chosen])) for level in levels)
    return describe("zorba", plans.matrices[chosen], bound, done, (), float(plans.values["convergence"].min()))


def solve(instance: Instance, config: AllocationConfig, seed: int) -> Plan:
    """The plan `zorba`."""
    check(instance)
    bound = Bound(instance)
    if enumerable(bound, config.formulation):
        return by_enumeration(bound, config)
    return Levels(instance, config, seed).solve()
