"""The ε-constraint lexicographic program: each level a HiGHS program for the proof, a search for the exact plan."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zorba_ray.allocation.alternatives import NAMES, Filler, alternative
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.enumeration import all_plans, enumerable
from zorba_ray.allocation.feasibility import check, explain
from zorba_ray.allocation.formulation import Formulation, formulate
from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.memory import Floats, Matrix
from zorba_ray.allocation.plan import Level, Plan, describe
from zorba_ray.allocation.search import Search, State, groups_of_rows, make_groups, repair
from zorba_ray.allocation.solver import NODES, Solved
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import AllocationConfig
from zorba_ray.noise import Domain, generator

GROUPS = 5  # per block: rows that the search handles at once; fewer clients than twice that are searched one by one
LEAST_GROUPS = 160
ROUNDING = 1e-9  # of a limit
CUT_ROUNDS = 15
CUT_TOLERANCE = 1e-4
NODES_OF_UNDERESTIMATE = 100  # more would prove little: what Φ is underestimated by is not in the tree


@dataclass
class Effort:
    """How much the search may do; counted in moves and sweeps, so that results do not depend on the clock."""

    starts: int  # plans to begin from, besides the program's own
    sweeps: int
    width: int  # of exchanges tried in a row
    trades: bool  # between pairs of groups
    kicks: int


def effort(groups: int, blocks: int) -> Effort:
    """More for small instances, where it costs nothing; large ones have room for the program's rounding to be good."""
    size = groups * blocks
    if size <= 64:
        return Effort(starts=8, sweeps=20, width=blocks, trades=True, kicks=8)
    if size <= 1000:
        return Effort(starts=3, sweeps=6, width=3, trades=False, kicks=min(12, 2000 // size))
    return Effort(starts=1, sweeps=3, width=1, trades=False, kicks=0)


class Levels:
    """The run through the levels of one instance."""

    def __init__(self, instance: Instance, config: AllocationConfig, seed: int):
        self.instance, self.config, self.seed = instance, config, seed
        self.bound = Bound(instance)
        self.worst = config.vram == "worst"
        most = max(GROUPS * instance.blocks, LEAST_GROUPS)
        self.groups = make_groups(self.bound, most if instance.clients > 2 * most else 2 * most)
        self.effort = effort(len(self.groups.size), instance.blocks)
        self.limits: dict[str, float] = {}
        self.levels: list[Level] = []
        self.messages: list[str] = []
        self.alternatives: dict[str, Matrix] = {}

    def solve(self) -> Plan:
        starts = self.starts()
        scales = self.scales(starts)
        form = formulate(self.bound, self.config.formulation, self.worst, scales)
        state: State | None = None
        lower = 0.0
        previous: Floats | None = None
        for i, objective in enumerate(self.config.order):
            began = time.perf_counter()
            solved = self.prove(form, objective, previous)
            candidates = dict(starts) if i == 0 else {}
            if solved.x is not None:
                candidates["program"] = form.rows(solved.x, self.groups)
                previous = solved.x
            state, used = self.best(objective, state, candidates)
            value = state.objective(objective)
            ruled, rule, matrix = self.best_rule(objective) if i == 0 else (np.inf, "", None)
            if ruled < value:
                value, used = ruled, rule
            proven = min(solved.bound * form.scales[objective], value)
            if objective == "convergence" and i == 0:
                lower = proven
            surrogate = solved.value * form.scales[objective]
            self.close(form, objective, value, proven, surrogate, solved, used, time.perf_counter() - began)
            if matrix is not None and not self.within(state):  # ε does not cover the difference to the groups' plan
                self.groups, rows = groups_of_rows(self.bound, matrix)
                state = State(self.bound, self.groups, rows, self.worst)
        assert state is not None
        if self.config.order[0] != "convergence":
            loose = formulate(self.bound, self.config.formulation, self.worst, scales)
            lower = max(self.prove(loose, "convergence", None).bound, 0.0) * scales["convergence"]
        return self.finish(state, min(lower, state.objective("convergence")))

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
            gap = max(solved.value - bound, 0.0) / max(abs(solved.value), 1e-300) if solved.x is not None else np.inf
            solved = replace(solved, bound=bound, gap=gap)
        if solved.status == "infeasible" and not self.levels:
            raise ConfigError(explain(self.instance))
        return solved

    def best(self, objective: str, incumbent: State | None, candidates: dict[str, Matrix]) -> tuple[State, str]:
        """The best plan found for a level that keeps the earlier levels' limits."""
        best, used = (self.polished(incumbent, objective), "search") if incumbent is not None else (None, "")
        states = {name: State(self.bound, self.groups, rows, self.worst) for name, rows in candidates.items()}
        sound = {name: state for name, state in states.items() if self.sound(state) or repair(state)}
        order = sorted(sound, key=lambda each: (not self.within(sound[each]), sound[each].objective(objective), each))
        for name in dict.fromkeys([*order[: self.effort.starts], *(each for each in order if each == "program")]):
            state = sound[name]
            before = state.objective(objective)
            state = self.polished(state, objective, ceiling=best.objective(objective) if best is not None else np.inf)
            value = state.objective(objective)
            if self.within(state) and (best is None or value < best.objective(objective) * (1 - 1e-12)):
                best, used = state, name if value >= before * (1 - 1e-12) else "search"
        if best is None:
            raise ConfigError(explain(self.instance))
        return self.kicked(best, objective, used)

    def kicked(self, best: State, objective: str, used: str) -> tuple[State, str]:
        """Iterated local search: a few rows drawn anew, polished, kept when better. Drawn from the seed."""
        fill = Filler(self.instance)
        groups, blocks = len(self.groups.size), self.instance.blocks
        for kick in range(self.effort.kicks):
            rng = generator(self.seed, Domain.ALLOCATION, 1, len(self.levels), kick)
            rows = best.rows.copy()
            for g in rng.choice(groups, min(groups, 2 + groups // 20), replace=False):
                limit = max(int(rows[g].sum()) + int(rng.integers(-1, 2)), 0)
                rows[g] = fill(float(self.groups.budget[g]), rng.permutation(blocks).tolist(), limit) & (limit > 0)
            state = State(self.bound, self.groups, rows, self.worst)
            if not (self.sound(state) or repair(state)):
                continue
            now = best.objective(objective)
            state = self.polished(state, objective, ceiling=now)
            if self.within(state) and state.objective(objective) < now * (1 - 1e-9):
                best, used = state, "search"
        return best, used

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

    def sound(self, state: State) -> bool:
        covered = state.coverage >= self.instance.coverage - 1e-9
        return bool((state.vram <= self.groups.budget).all() and covered.all())

    def within(self, state: State) -> bool:
        return all(state.objective(name) <= limit for name, limit in self.limits.items())

    def polished(self, state: State, objective: str, ceiling: float = np.inf) -> State:
        """The same plan improved; one that breaks a limit is first brought back within it."""
        state = State(self.bound, self.groups, state.rows, self.worst)
        e = self.effort
        for name, limit in self.limits.items():
            if state.objective(name) > limit:
                others = {k: v for k, v in self.limits.items() if k != name and state.objective(k) <= v}
                if state.objective(objective) < ceiling < np.inf:
                    others[objective] = ceiling
                Search(state, name, others).run(e.sweeps, e.width, e.trades)
        if self.within(state):
            Search(state, objective, self.limits).run(e.sweeps, e.width, e.trades)
        return state

    def close(
        self, form: Formulation, objective: str, value: float, proven: float, surrogate: float, solved: Solved,
        used: str, seconds: float,
    ) -> None:
        """Write the level down and bind the later ones to it."""
        epsilon = self.config.epsilon[len(self.levels)]
        limit = allowance(self.config, len(self.levels), value)
        self.limits[objective] = limit
        scale = form.scales[objective]
        form.program.row(form.objective(objective), upper=limit / scale * (1 + ROUNDING))
        gap = max(value - proven, 0.0) / abs(value) if value else 0.0
        self.levels.append(Level(
            objective, value, proven, gap, seconds, epsilon, limit, value, form.name, form.exact[objective], surrogate,
            solved.gap, used,
        ))  # fmt: skip

    def finish(self, state: State, lower: float) -> Plan:
        matrix = self.groups.deal(state.rows)
        levels = tuple(settled(level, state.objective(level.objective)) for level in self.levels)
        self.compare(matrix)
        return describe("zorba", matrix, self.bound, levels, tuple(self.messages), lower)

    def compare(self, matrix: Matrix) -> None:
        """Say where a simple rule is as good, and who tunes nothing."""
        first = self.levels[0]
        for name, other in self.rules.items():
            value = objective_of(self.bound, other, first.objective, self.worst)
            if value <= first.value * (1 + 1e-6):
                self.messages.append(f"{name} alone is as good at the first level ({first.objective} {value:.6g})")
            if (other == matrix).all():
                self.messages.append(f"the plan is {name}")
        idle = int((~matrix.any(axis=1)).sum())
        if idle:
            self.messages.append(
                f"{idle} of {len(matrix)} clients tune nothing: what ε grants is spent on doing without them; "
                "allocation.epsilon=[0,0,0] keeps them"
            )


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
