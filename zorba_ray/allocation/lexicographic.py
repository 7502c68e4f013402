"""The ε-constraint lexicographic program: each level a HiGHS program for the proof, a search for the exact plan."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zorba_ray.allocation.alternatives import NAMES, alternative
from zorba_ray.allocation.bound import Bound, Worth
from zorba_ray.allocation.enumeration import all_plans, enumerable
from zorba_ray.allocation.feasibility import check, explain
from zorba_ray.allocation.formulation import Formulation, formulate
from zorba_ray.allocation.improve import Improver, within
from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.plan import Level, Plan, describe
from zorba_ray.allocation.rates import Chords, last_rate
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
NODES_OF_UNDERESTIMATE = 100  # more would prove little: what C_η is underestimated by is not in the tree
FEW = 1000  # groups × blocks up to which several rates are searched
RATES = 6  # in a row, each the best of the plan before
SAME = 1e-6  # relative gain of merit that is none
TINY = 30  # groups × blocks up to which M is bounded as tightly as the programs can
TIGHT = 0.01  # else the relative distance to the limit of M that is near enough


@dataclass(frozen=True)
class Found:
    """A level's outcome before later levels are bound to it."""

    objective: str
    value: float
    proven: float
    solved: Solved
    used: str
    rule: Matrix | None = None  # the simple rule's plan, if f* is its
    seconds: float = 0.0


class Levels:
    """The run through the levels of one instance: `find` and `close` each of them in order, then `finish`. What
    `find` finds first does not depend on ε: `branch` goes on from there with others."""

    def __init__(self, instance: Instance, config: AllocationConfig, seed: int):
        self.instance, self.config, self.seed = instance, config, seed
        self.bound = Bound(instance)
        self.worst = config.vram == "worst"
        most = max(GROUPS * instance.blocks, LEAST_GROUPS)
        self.groups = make_groups(self.bound, most if instance.clients > 2 * most else 2 * most)
        self.limits: dict[str, float] = {}
        self.levels: list[Level] = []
        self.state: State | None = None
        self.limit = 0.0  # of M, over all plans
        self.previous: Floats | None = None  # the last program's solution
        self.candidates = self.starts()
        worths = [self.bound.of(self.groups.deal(rows)) for rows in self.candidates.values()]
        self.bound = self.bound.at(max(worths, key=lambda worth: worth.merit).rate)
        self.form = self.formulated(self.bound)

    def solve(self, first: Found) -> Plan:
        """The levels after the first, too."""
        self.close(first)
        for _ in self.config.order[1:]:
            self.close(self.find())
        if self.config.order[0] != "convergence":
            alone = replace(self.config, order=["convergence"], epsilon=[0.0])
            self.limit = 1 / Levels(self.instance, alone, self.seed).find().proven
        return self.finish()

    def formulated(self, bound: Bound) -> Formulation:
        """The program at a rate, within the limits of the levels so far."""
        full = np.ones((1, self.instance.blocks), dtype=bool)
        scales = {
            "convergence": bound.most or 1.0,
            "vram": 1.0 if self.worst else float(self.instance.budgets.sum()) or 1.0,
            "compute": self.instance.clients * float(self.instance.compute(full)[0]) or 1.0,
        }
        form = formulate(bound, self.config.formulation, self.worst, scales)
        for objective, limit in self.limits.items():
            form.program.row(form.objective(objective), upper=limit / scales[objective] * (1 + ROUNDING))
        return form

    def find(self) -> Found:
        """Prove and search the next level."""
        began, objective, first = time.perf_counter(), self.config.order[len(self.levels)], not self.levels
        if objective == "convergence":
            found = self.fastest(first)
        else:
            solved = self.prove(self.form, objective, self.previous, self.config.time_limit)
            self.previous = solved.x if solved.x is not None else self.previous
            self.state, used = self.searched(self.bound, self.form, solved, objective, first)
            proven = solved.bound * self.form.scales[objective]
            found = Found(objective, self.state.objective(objective), proven, solved, used)
        if first:
            value, rule, matrix = self.best_rule(objective)
            if matrix is not None and value < found.value:
                found = replace(found, value=value, used=rule, rule=matrix)
                if objective == "convergence":
                    self.move_to(self.bound.of(matrix).rate)
        proven = min(found.proven, found.value)
        proven = max(proven, 0.0) if np.isfinite(proven) else proven  # no objective can be less
        if objective == "convergence" and first and proven > 0:
            self.limit = 1 / proven
        return replace(found, proven=proven, seconds=time.perf_counter() - began)

    def searched(
        self, bound: Bound, form: Formulation, solved: Solved, objective: str, start: bool
    ) -> tuple[State, str]:
        """The best plan found from the program's, the one so far and, at the start, the simple rules'."""
        candidates = dict(self.candidates) if start else {}
        if solved.x is not None:
            candidates["program"] = form.rows(solved.x, self.groups)
        incumbent = State(bound, self.groups, self.state.rows, self.worst) if self.state is not None else None
        improver = Improver(bound, self.groups, self.worst, self.seed, light=not start and objective == "convergence")
        best = improver.best(objective, self.limits, incumbent, candidates)
        if best is None:
            raise ConfigError(explain(self.instance))
        return best

    def fastest(self, first: bool) -> Found:
        """The plan of most merit. A program and a search are at one rate; the next are at the best rate of the plan
        that came out, so that M never falls. Programs at other rates then say how much more there can be."""
        chords, rate = Chords(self.bound), self.bound.rate or last_rate(self.bound) / 4
        size = len(self.groups.size) * self.instance.blocks
        few, tiny, until = size <= FEW, size <= TINY, time.perf_counter() + self.config.time_limit
        best, merit = None, 0.0
        for turn in range(RATES if few else 1):
            form, solved = self.at_rate(rate, chords, until)
            state, used = self.searched(self.bound.at(rate), form, solved, "convergence", first and not turn)
            before, merit = merit, self.worth(state).merit
            if best is None or merit > before:
                self.state, best = state, (solved, used)
                self.previous = solved.x if solved.x is not None else self.previous
                rate = self.worth(state).rate
            merit = max(before, merit)
            if merit <= before * (1 + SAME):
                break
        if not merit:  # nobody gains at any rate: at 0, the cost is what is lost over the horizon
            form, solved = self.at_rate(0.0, chords, until)
            self.state, used = self.searched(self.bound.at(0.0), form, solved, "convergence", first)
            best = solved, used
        assert best is not None and self.state is not None
        for _ in range(15 if tiny else 6 if few else 2):
            if not merit or chords.limit <= merit * (1 + (ROUNDING if tiny else TIGHT)) or time.perf_counter() > until:
                break
            rate = chords.next
            form, solved = self.at_rate(rate, chords, until)
            if few and solved.x is not None and self.merit_of(form.rows(solved.x, self.groups)) > merit:
                self.state, used = self.searched(self.bound.at(rate), form, solved, "convergence", False)
                best, merit = (solved, used), self.worth(self.state).merit
        self.move_to(self.worth(self.state).rate)
        return Found("convergence", rounds(merit), rounds(max(chords.limit, merit)), *best)

    def at_rate(self, rate: float, chords: Chords, until: float) -> tuple[Formulation, Solved]:
        """The program at a rate, and how much progress it leaves."""
        bound = self.bound.at(rate)
        form = self.formulated(bound)
        solved = self.prove(form, "convergence", self.previous, max(until - time.perf_counter(), 0.05))
        chords.add(rate, bound.most - solved.bound * form.scales["convergence"])
        return form, solved

    def merit_of(self, rows: Matrix) -> float:
        return self.bound.of(self.groups.deal(rows)).merit

    def worth(self, state: State) -> Worth:
        return self.bound.of(self.groups.deal(state.rows))

    def move_to(self, rate: float) -> None:
        """Go on at this rate."""
        assert self.state is not None
        self.bound = self.bound.at(rate)
        self.form = self.formulated(self.bound)
        self.state = State(self.bound, self.groups, self.state.rows, self.worst)

    def close(self, found: Found) -> None:
        """Write the level down and bind the later ones to it. The slack of convergence counts at the rate that is best
        for the plan found: a plan that makes so much progress at that rate has as much merit, or more."""
        assert self.state is not None
        form, objective, value = self.form, found.objective, found.value
        epsilon, limit = self.config.epsilon[len(self.levels)], allowance(self.config, len(self.levels), value)
        scale = form.scales[objective]
        if objective == "convergence":
            least = self.state.objective(objective)
            self.limits[objective] = most_cost(self.bound, self.config, len(self.levels), value, least)
            surrogate = found.proven
        else:
            self.limits[objective], surrogate = limit, found.solved.value * scale
        form.program.row(form.objective(objective), upper=self.limits[objective] / scale * (1 + ROUNDING))
        level = Level(
            objective, value, found.proven, 0.0, found.seconds, epsilon, limit, value, form.name, form.exact[objective],
            surrogate, found.solved.gap, found.used,
        )  # fmt: skip
        self.levels.append(settled(level, value))
        if found.rule is not None and not within(self.state, self.limits):  # ε does not cover what grouping loses
            self.groups, rows = groups_of_rows(self.bound, found.rule)
            self.state = State(self.bound, self.groups, rows, self.worst)

    def branch(self, config: AllocationConfig) -> Levels:
        """The same run, after its first level, with another ε."""
        other = copy.copy(self)
        other.config, other.limits, other.levels = config, dict(self.limits), list(self.levels)
        other.form = other.formulated(other.bound)
        return other

    def finish(self) -> Plan:
        assert self.state is not None
        matrix = self.groups.deal(self.state.rows)
        finals = {each.objective: objective_of(self.bound, matrix, each.objective, self.worst) for each in self.levels}
        levels = tuple(settled(level, finals[level.objective]) for level in self.levels)
        return describe("zorba", matrix, self.bound, levels, tuple(self.compare(matrix)), self.limit)

    def starts(self) -> dict[str, Matrix]:
        """Rows of groups to begin from: the simple rules applied to groups as if each were one client."""
        first = np.unique(self.groups.of, return_index=True)[1]
        small = replace(
            self.instance, budgets=self.groups.budget, class_of=self.groups.unit, weights=self.instance.weights[first],
            coverage=np.ceil(self.instance.coverage / self.groups.size.min()).astype(np.int64), participants=0,
        )  # fmt: skip
        names = NAMES if len(first) == self.instance.clients else ("random", "cyclic", "greedy", "one_each")
        return {name: alternative(name, small, self.seed) for name in names}

    def prove(self, form: Formulation, objective: str, start: Floats | None, left: float) -> Solved:
        """Minimise the surrogate within the limits: the linear relaxation first, until its tangents hold, then HiGHS's
        branch and bound; `left` seconds for each at most."""
        program, goal = form.program, form.objective(objective)
        bound = -np.inf
        start = None if start is None or len(start) > form.program.size else start  # there are fewer at rate 0
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
        """What the simple rules do for the clients themselves, at best: large instances are searched in groups, and a
        search begins from few of them or may end by its time."""
        best: tuple[float, str, Matrix | None] = (np.inf, "", None)
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
    gap = max(value - level.bound, 0.0) / abs(value) if value and np.isfinite(value) else 0.0
    return replace(level, final=final, value=value, gap=gap)


def objective_of(bound: Bound, matrix: Matrix, objective: str, worst: bool) -> float:
    """An objective's exact value."""
    instance = bound.instance
    if objective == "convergence":
        return rounds(bound.of(matrix).merit)
    if objective == "compute":
        return float(instance.compute(matrix).sum())
    used = instance.vram.of(matrix)
    return float((used / instance.budgets).max() if worst else used.sum())


def rounds(merit: float) -> float:
    """For one unit of loss, if all were as the first."""
    return 1 / merit if merit > 0 else np.inf


def allowance(config: AllocationConfig, level: int, value: float) -> float:
    """What later levels may let an objective rise to."""
    epsilon = config.epsilon[level]
    limit = value * (1 + epsilon) if config.epsilon_kind == "relative" else value + epsilon
    return limit + ROUNDING * abs(value)


def most_cost(bound: Bound, config: AllocationConfig, level: int, value: float, least: float) -> float:
    """The C_η that leaves as much progress at η as ε allows; where nobody gains, ε counts on the `least` C_0."""
    if not bound.rate:
        return allowance(config, level, least)
    return bound.most - 1 / (allowance(config, level, value) * bound.rate)


def by_enumeration(bound: Bound, config: AllocationConfig) -> Plan:
    """The levels over all plans of a tiny instance."""
    plans = all_plans(bound, config.vram == "worst")
    if len(plans.matrices) == 0:
        raise ConfigError(explain(bound.instance))
    left, merit = np.arange(len(plans.matrices)), plans.merit
    levels = []
    for i, objective in enumerate(config.order):
        began = time.perf_counter()
        if objective == "convergence":  # at the best rate of the plan found, like the programs
            best = left[np.argmax(merit[left])]
            at = bound.at(float(plans.gain[best] / plans.cost[best]) if merit[best] else 0.0)
            values = bound.most - plans.gain + at.rate / 2 * plans.cost  # C_η
            least, value = float(values[left].min()), rounds(float(merit[best]))
            most = most_cost(at, config, i, value, least)
        else:
            values = plans.values[objective]
            least = value = float(values[left].min())
            most = allowance(config, i, least)
        last = i == len(config.order) - 1
        left = left[values[left] <= (least + ROUNDING * abs(least) if last else most)]
        seconds, allowed = time.perf_counter() - began, allowance(config, i, value)
        levels.append(Level(objective, value, value, 0.0, seconds, config.epsilon[i], allowed, value, "enumeration",
                            True, value, 0.0, "program"))  # fmt: skip
    chosen = int(max(left, key=lambda plan: (merit[plan], plans.gain[plan])))
    finals = {name: float(each[chosen]) for name, each in plans.values.items()}
    finals["convergence"] = rounds(float(merit[chosen]))
    done = tuple(replace(level, final=finals[level.objective]) for level in levels)
    return describe("zorba", plans.matrices[chosen], bound, done, (), float(merit.max()))


def solve(instance: Instance, configs: Sequence[AllocationConfig], seed: int) -> list[Plan]:
    """The plan `zorba` for each of several configs that differ in ε alone; a first level of merit, most of the work, is
    the same for all. Where no plan gains it is the one that loses least, and says so: a run near its optimum, or one
    whose statistics are mostly noise, is no mistake of the user's."""
    check(instance)
    bound, first = Bound(instance), configs[0]
    if enumerable(bound, first.formulation):
        plans = [by_enumeration(bound, config) for config in configs]
    elif first.order[0] == "convergence":
        levels = Levels(instance, first, seed)
        found = levels.find()
        plans = [levels.branch(config).solve(found) for config in configs]
    else:
        plans = [(levels := Levels(instance, config, seed)).solve(levels.find()) for config in configs]
    return [plan if plan.merit or first.order[0] != "convergence" else hopeless(plan) for plan in plans]


def hopeless(plan: Plan) -> Plan:
    return replace(plan, messages=(*plan.messages, (
        "by these statistics no plan brings the loss down: what its clients' gradients are off (client variance) "
        "outweighs the gradient over allocation.horizon; of those that the budgets hold this one loses least. "
        "allocation.rotate=true, larger budgets or a smaller horizon change that"
    )))  # fmt: skip
