"""A small mixed-integer program builder over highspy: variables, rows, one objective, a start, a proof."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import highspy
import numpy as np

from zorba_ray.allocation.memory import Floats


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


NODES = 1000  # of branch and bound: unlike a time limit, the same on every machine


class Program:
    """Columns and rows as they are added; solved as often as wanted, with rows added in between."""

    def __init__(self) -> None:
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integer: list[bool] = []
        self.rows: list[tuple[Linear, float, float]] = []

    def variable(self, lower: float, upper: float, integer: bool = False) -> Linear:
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return Linear({len(self.lower) - 1: 1.0})

    def row(self, expression: Linear, lower: float = -np.inf, upper: float = np.inf) -> None:
        self.rows.append((expression, lower - expression.constant, upper - expression.constant))

    def solve(
        self, objective: Linear, time_limit: float, gap: float, start: Floats | None = None, relaxed: bool = False,
        threads: int = 1,
    ) -> Solved:
        """Minimise. `relaxed` drops integrality; `start` is a full vector that HiGHS tries first."""
        began = time.perf_counter()
        scale = max((abs(c) for c in objective.terms.values()), default=1.0) or 1.0
        highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        options = {
            "output_flag": False, "threads": threads, "random_seed": 0, "time_limit": float(time_limit),
            "mip_rel_gap": float(gap), "mip_feasibility_tolerance": 1e-9, "primal_feasibility_tolerance": 1e-9,
            "dual_feasibility_tolerance": 1e-9, "mip_abs_gap": 0.0, "mip_max_nodes": NODES,
        }  # fmt: skip
        for name, value in options.items():
            highs.setOptionValue(name, value)
        highs.passModel(self._model(objective, scale, relaxed))
        if start is not None and not relaxed:
            solution = highspy.HighsSolution()
            solution.col_value = [float(v) for v in start]
            highs.setSolution(solution)
        highs.run()
        info, status = highs.getInfo(), highs.getModelStatus()
        seconds = time.perf_counter() - began
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            return Solved("infeasible", None, np.inf, np.inf, np.inf, seconds)
        found = info.primal_solution_status == 2
        x = np.array(highs.getSolution().col_value, dtype=np.float64) if found else None
        value = info.objective_function_value * scale + objective.constant if found else np.inf
        integral = any(self.integer) and not relaxed
        best = info.mip_dual_bound if integral else info.objective_function_value
        bound = best * scale + objective.constant
        optimal = status == highspy.HighsModelStatus.kOptimal
        if not integral and not optimal:
            bound = -np.inf
        distance = max(value - bound, 0.0) / max(abs(value), 1e-300) if found else np.inf
        return Solved("optimal" if optimal else "limit", x, value, bound, distance, seconds)

    def _model(self, objective: Linear, scale: float, relaxed: bool) -> highspy.HighsLp:
        columns, rows = len(self.lower), len(self.rows)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = columns, rows
        cost = np.zeros(columns)
        for variable, coefficient in objective.terms.items():
            cost[variable] = coefficient / scale
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, np.array(self.lower), np.array(self.upper)
        lp.row_lower_ = np.array([lower for _, lower, _ in self.rows])
        lp.row_upper_ = np.array([upper for _, _, upper in self.rows])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lengths = [len(expression.terms) for expression, _, _ in self.rows]
        lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        lp.a_matrix_.index_ = np.array([i for e, _, _ in self.rows for i in e.terms], dtype=np.int32)
        lp.a_matrix_.value_ = np.array([v for e, _, _ in self.rows for v in e.terms.values()], dtype=np.float64)
        if any(self.integer) and not relaxed:
            kind = {True: highspy.HighsVarType.kInteger, False: highspy.HighsVarType.kContinuous}
            lp.integrality_ = [kind[flag] for flag in self.integer]
        return lp
