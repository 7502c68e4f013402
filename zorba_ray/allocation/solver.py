"""A small mixed-integer program builder over highspy: variables, rows, one objective, a start, a proof."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine.memory import Floats


@dataclass
class Linear:
    """A linear expression Σ coefficient · variable + constant."""

    terms: dict[int, float] = field(default_factory=dict)
    constant: float = 0.0

    def add(self, other: Linear | Mapping[int, float], times: float = 1.0) -> Linear:
        """Add in place, for building long sums."""
        terms = other.terms if isinstance(other, Linear) else other
        for variable, coefficient in terms.items():
            self.terms[variable] = self.terms.get(variable, 0.0) + times * coefficient
        if isinstance(other, Linear):
            self.constant += times * other.constant
        return self

    def at(self, x: Floats) -> float:
        return self.constant + sum(coefficient * float(x[variable]) for variable, coefficient in self.terms.items())


def weighted(*parts: tuple[float, Linear], constant: float = 0.0) -> Linear:
    total = Linear(constant=constant)
    for times, part in parts:
        total.add(part, times)
    return total


@dataclass(frozen=True)
class Solved:
    """What HiGHS answered; `x` is None when it found no solution."""

    status: str  # optimal, infeasible, limit
    x: Floats | None
    value: float
    bound: float
    gap: float
    seconds: float


TOLERANCE = 1e-9
NODES = 2000  # of branch and bound: unlike a time limit, the same on every machine


class Program:
    """Columns and rows as they are added; solved as often as wanted, with rows added in between."""

    def __init__(self) -> None:
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integer: list[bool] = []
        self.rows: list[tuple[Linear, float, float]] = []
        self._lp: Any = None  # the linear relaxation, kept so that new rows and objectives begin at the last optimum
        self._known = (0, 0)  # its columns and rows

    def variable(self, lower: float, upper: float, integer: bool = False) -> Linear:
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return Linear({len(self.lower) - 1: 1.0})

    @property
    def size(self) -> int:
        """Variables so far."""
        return len(self.lower)

    def row(self, expression: Linear, lower: float = -np.inf, upper: float = np.inf) -> None:
        self.rows.append((expression, lower - expression.constant, upper - expression.constant))

    def solve(
        self, objective: Linear, time_limit: float, gap: float, start: Floats | None = None, nodes: int = NODES
    ) -> Solved:
        """Minimise. `start` is a vector that HiGHS tries first. Without integer variables this is `relax`."""
        if not any(self.integer):
            return self.relax(objective, time_limit)
        began = time.perf_counter()
        highs = new_highs()
        for name, value in {"time_limit": float(time_limit), "mip_rel_gap": float(gap), "mip_max_nodes": nodes}.items():
            highs.setOptionValue(name, value)
        highs.passModel(self._model(objective))
        if start is not None:
            solution = highspy.HighsSolution()
            solution.col_value = [float(v) for v in [*start, *([0.0] * (len(self.lower) - len(start)))]]
            highs.setSolution(solution)
        highs.run()
        return outcome(highs, began, highs.getInfo().mip_dual_bound)

    def relax(self, objective: Linear, time_limit: float) -> Solved:
        """Minimise without integrality, from where the last relaxation ended."""
        began = time.perf_counter()
        columns, rows = len(self.lower), len(self.rows)
        if self._lp is None or self._known[0] != columns:
            self._lp = new_highs()
            self._lp.passModel(self._model(objective, relaxed=True))
        else:
            added = self.rows[self._known[1] :]
            starts, index, values = rowwise(added)
            lower, upper = np.array([row[1] for row in added]), np.array([row[2] for row in added])
            if added:
                self._lp.addRows(len(added), lower, upper, len(index), starts[:-1], index, values)
            self._lp.changeColsCost(columns, np.arange(columns, dtype=np.int32), self._costs(objective))
            self._lp.changeObjectiveOffset(objective.constant)
        self._known = (columns, rows)
        self._lp.setOptionValue("time_limit", self._lp.getRunTime() + float(time_limit))
        self._lp.run()
        optimal = self._lp.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return outcome(self._lp, began, self._lp.getInfo().objective_function_value if optimal else -np.inf)

    def _costs(self, objective: Linear) -> Floats:
        cost = np.zeros(len(self.lower))
        for variable, coefficient in objective.terms.items():
            cost[variable] = coefficient
        return cost

    def _model(self, objective: Linear, relaxed: bool = False) -> highspy.HighsLp:
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.lower), len(self.rows)
        lp.offset_ = objective.constant
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = self._costs(objective), np.array(self.lower), np.array(self.upper)
        lp.row_lower_ = np.array([lower for _, lower, _ in self.rows])
        lp.row_upper_ = np.array([upper for _, _, upper in self.rows])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = rowwise(self.rows)
        if not relaxed:
            kind = {True: highspy.HighsVarType.kInteger, False: highspy.HighsVarType.kContinuous}
            lp.integrality_ = [kind[flag] for flag in self.integer]
        return lp


def rowwise(rows: list[tuple[Linear, float, float]]) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Starts, variables and coefficients of rows."""
    lengths = [len(expression.terms) for expression, _, _ in rows]
    index = np.array([i for expression, _, _ in rows for i in expression.terms], dtype=np.int32)
    values = np.array([v for expression, _, _ in rows for v in expression.terms.values()], dtype=np.float64)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), index, values


def new_highs() -> Any:
    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    options = {
        "output_flag": False, "threads": 1, "random_seed": 0, "mip_feasibility_tolerance": TOLERANCE,
        "primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE, "mip_abs_gap": 0.0,
        "mip_heuristic_run_rins": False, "mip_heuristic_run_root_reduced_cost": False,  # our own search finds as much
    }  # fmt: skip
    for name, value in options.items():
        highs.setOptionValue(name, value)
    return highs


def gap_between(value: float, bound: float) -> float:
    """Relative distance of a value from what is proven; below the solver's tolerances there is none."""
    distance = max(value - bound, 0.0)
    return distance / max(abs(value), TOLERANCE) if distance > TOLERANCE else 0.0


def outcome(highs: Any, began: float, bound: float) -> Solved:
    """What HiGHS found, and `bound`, which it has proven."""
    info, status = highs.getInfo(), highs.getModelStatus()
    seconds = time.perf_counter() - began
    if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return Solved("infeasible", None, np.inf, np.inf, np.inf, seconds)
    found = info.primal_solution_status == 2
    x = np.array(highs.getSolution().col_value, dtype=np.float64) if found else None
    value = info.objective_function_value if found else np.inf
    distance = gap_between(value, bound) if found else np.inf
    optimal = status == highspy.HighsModelStatus.kOptimal
    return Solved("optimal" if optimal else "limit", x, value, bound, distance, seconds)
