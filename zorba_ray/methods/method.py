"""What a method is: three functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine import Path
from zorba_ray.ledger.step import Step
from zorba_ray.rounds.plan import Report, RoundPlan


@dataclass(frozen=True)
class Method:
    """probes(plan, client, row of a[n,l]) → paths · scalars(plan, losses) → ρ · step(plan, reports, a, w) → step."""

    probes: Callable[[RoundPlan, int, NDArray[np.bool_]], tuple[Path, ...]]
    scalars: Callable[[RoundPlan, NDArray[np.float64]], NDArray[np.float32]]
    step: Callable[[RoundPlan, Sequence[Report], NDArray[np.bool_], NDArray[np.float64]], Step]
