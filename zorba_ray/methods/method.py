"""What a method is: a few functions, and what travels between clients and server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine import Path
from zorba_ray.messages import Layout, Report, RoundPlan, Step

if TYPE_CHECKING:
    from zorba_ray.model import BlockModel
    from zorba_ray.tasks import Batch

Row = NDArray[np.bool_]  # of a[n, l]: the blocks that a client has active
Scalars = NDArray[np.float32]
MakeStep = Callable[[RoundPlan, Sequence[Report], NDArray[np.bool_], NDArray[np.float64]], Step]


def plain(plan: RoundPlan, client: int, scalars: Scalars) -> bytes:
    """An upload of bare scalars: their order says what they are."""
    return scalars.astype("<f4").tobytes()


@dataclass(frozen=True)
class ZeroOrder:
    """A method whose clients evaluate losses only.

    probes(plan, client, row) → the paths of one local step, `plan.step`, counted from 0. scalars(plan, losses) → ρ [J]
    of that local step. step(plan, reports, a, w) → what the round's reports [local steps · J] do to the weights; called
    with one client's report of one local step, it is also the move that this client makes before its next local step.
    """

    probes: Callable[[RoundPlan, int, Row], tuple[Path, ...]]
    scalars: Callable[[RoundPlan, NDArray[np.float64]], Scalars]
    step: MakeStep
    upload: Callable[[RoundPlan, int, Scalars], bytes] = plain  # a client's message, from all its scalars of a round
    dense: bool = False  # on the wire: weights, 4 bytes a number, instead of scalars
    download: Callable[[Step], bytes] | None = None  # a step's message, where block coefficients are not what travels


@dataclass(frozen=True)
class Update:
    """What a client's training gave: the change of each block's vector (None: not trained), or with a `layout` the
    vectors themselves and what each block's holds; and what it cost."""

    vectors: tuple[NDArray[np.float32] | None, ...]
    loss: float
    block_evaluations: int
    flops: float
    backward_flops: float
    layout: tuple[Layout, ...] = ()


Train = Callable[["BlockModel", RoundPlan, int, Row, Iterable["Batch"]], Update]


@dataclass(frozen=True)
class FirstOrder:
    """A method whose clients train with gradients and send tensors.

    train(model, plan, client, row, batches) → its update; there is one mini-batch for each local step. It leaves the
    model as it was. step(plan, reports, a, w) as above, from `Report.vectors`.
    """

    train: Train
    step: MakeStep


Method = ZeroOrder | FirstOrder
