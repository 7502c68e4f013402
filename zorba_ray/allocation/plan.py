"""A solved allocation and its proof: what the run follows, the report shows and a resumed run reads back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.instance import Instance
from zorba_ray.engine.memory import Floats, Matrix


@dataclass(frozen=True)
class Level:
    """One level of the lexicographic program. Values are in the objective's own unit: rounds per unit of loss (1/M),
    bytes (or share), FLOPs.

    `value` is f*, exact, of the best plan found; `bound` is proven: no plan within the earlier levels' limits has less.
    `surrogate` is what HiGHS minimised, a proven underestimate of the objective (equal to it where `exact`), solved to
    `surrogate_gap`. Later levels may spend up to `limit` = f* plus the granted ε.
    """

    objective: str
    value: float
    bound: float
    gap: float  # (value − bound) / value
    seconds: float
    epsilon: float
    limit: float
    final: float  # the objective's value in the plan that came out in the end
    formulation: str
    exact: bool
    surrogate: float
    surrogate_gap: float
    used: str  # "program", "search" or the name of the alternative that the value comes from


@dataclass(frozen=True)
class Plan:
    """Who tunes which blocks, and why that is right."""

    name: str
    matrix: Matrix  # [N, L]
    levels: tuple[Level, ...]
    merit: float  # M: how much a round at the plan's best rate brings the loss down, exact; 0 where no rate does
    rate: float  # η*, that rate
    limit: float  # of M, proven for every plan of this instance; 0 where no program was solved
    bound: float  # Φ at the rate of the config, exact
    variance: float  # Var
    bias: float  # Bias
    vram: float  # bytes, total over clients
    worst: float  # largest share of its budget that a client uses
    compute: float  # FLOPs of a round
    slack: Floats  # [N] bytes of budget left
    feasible: bool
    messages: tuple[str, ...] = ()
    gain: tuple[float, ...] = field(default=())  # [L] D_l
    cost: tuple[float, ...] = field(default=())  # [L] Q_l

    @property
    def coverage(self) -> NDArray[np.int64]:
        """m_l, [L]."""
        return np.asarray(self.matrix.sum(axis=0), dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """JSON-able; rows of the matrix are texts of 0 and 1, equal rows stored once."""
        rows, which = np.unique(self.matrix, axis=0, return_inverse=True)
        data = {k: v for k, v in self.__dict__.items() if k not in ("matrix", "levels", "slack")}
        return data | {
            "rows": ["".join("1" if active else "0" for active in row) for row in rows],
            "row_of": [int(i) for i in which.reshape(-1)],
            "levels": [finite(asdict(level)) for level in self.levels],
            "slack": [float(left) for left in self.slack],
            "messages": list(self.messages),
            "gain": list(self.gain),
            "cost": list(self.cost),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Plan:
        data = dict(data)
        rows = np.array([[c == "1" for c in row] for row in data.pop("rows")], dtype=bool)
        return Plan(**data | {
            "matrix": rows[np.asarray(data.pop("row_of"), dtype=np.int64)],
            "levels": tuple(Level(**infinite(level)) for level in data["levels"]),
            "slack": np.asarray(data["slack"], dtype=np.float64),
            "messages": tuple(data["messages"]),
            "gain": tuple(data["gain"]),
            "cost": tuple(data["cost"]),
        })


def finite(data: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity: a level whose plans all stand still has null instead."""
    return {name: None if value == np.inf else value for name, value in data.items()}


def infinite(data: dict[str, Any]) -> dict[str, Any]:
    return {name: np.inf if value is None else value for name, value in data.items()}


def describe(
    name: str, matrix: Matrix, bound: Bound, levels: tuple[Level, ...] = (), messages: tuple[str, ...] = (),
    limit: float = 0.0,
) -> Plan:
    """A plan with its exact figures."""
    instance: Instance = bound.instance
    value = bound.of(matrix)
    used = instance.vram.of(matrix)
    why = instance.infeasible(matrix)
    return Plan(
        name=name,
        matrix=matrix,
        levels=levels,
        merit=value.merit,
        rate=value.rate,
        limit=max(limit, value.merit) if limit else 0.0,
        bound=float(value.phi.sum()),
        variance=float(value.variance.sum()),
        bias=float(value.bias.sum()),
        vram=float(used.sum()),
        worst=float((used / instance.budgets).max()),
        compute=float(instance.compute(matrix).sum()),
        slack=instance.budgets - used,
        feasible=not why,
        messages=(*messages, *([f"not feasible: {why}"] if why else [])),
        gain=tuple(value.gain.tolist()),
        cost=tuple(value.cost.tolist()),
    )


def rotated(matrix: Matrix, class_of: NDArray[np.int64], round: int) -> Matrix:
    """The matrix of a round of a rotated plan: within each class, rows move on by one client a round."""
    turned = matrix.copy()
    for k in np.unique(class_of):
        members = np.flatnonzero(class_of == k)
        turned[members] = matrix[np.roll(members, round % len(members))]
    return turned
