"""What a method is: a few functions, its own keys, what it can bear, and what travels between clients and server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config, key
from zorba_ray.engine import Path
from zorba_ray.messages import Report, RoundPlan, Step, VectorLayout

if TYPE_CHECKING:
    from zorba_ray.model import BlockModel
    from zorba_ray.tasks import Batch

Row = NDArray[np.bool_]  # of a[n, l]: the blocks that a client has active
Scalars = NDArray[np.float32]
MakeStep = Callable[[RoundPlan, Sequence[Report], NDArray[np.bool_], NDArray[np.float64]], Step]


def plain(plan: RoundPlan, client: int, scalars: Scalars) -> bytes:
    """An upload of bare scalars: their order says what they are."""
    return scalars.astype("<f4").tobytes()


def fits(config: Config) -> list[str]:
    """The check of a method that every config fits."""
    return []


@dataclass(frozen=True)
class Traffic:
    """What a method's messages have of their own."""

    dense: bool = False  # changed blocks are downloaded whole, as they are now
    forks: int = 1  # see `ledger.wire.rows_of`
    scalars: int = 0  # numbers of one participant, from all of which a client can compute the step itself; 0: it cannot
    pool: int = 0  # directions in the pool; who missed much downloads one number for each instead
    drawn: int = 0  # indices of the pool that are sent to a participant
    encode: Callable[[Step], bytes] | None = None  # a method's own message for a step


class Memory(Protocol):
    """What a method remembers at the server; all of it follows from the ledger's steps."""

    def add(self, step: Step) -> None:
        """The next step."""

    def told(self) -> Any:
        """What the next round's plan carries of it (`RoundPlan.memory`)."""


class Forked(Protocol):
    """Probes in two parts that share their first one: what the allocation must know of them."""

    @property
    def pairs(self) -> int:
        """First parts, in pairs."""

    def gain(self, blocks: int) -> NDArray[np.float64]:
        """How much of block q's gradient reaches block l's step as noise, [l, q]; 1: as with P directions of all."""

    def versions(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many versions of the hidden state leave each block, for rows of a[n, l] [..., L]."""


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
    download: Callable[[Step], bytes] | None = None  # a step's message, where block coefficients are not what travels
    traffic: Callable[[Config], Traffic] | None = None  # more that its messages have of their own
    dense: bool = False  # on the wire: weights, 4 bytes a number, instead of scalars
    options: type | None = None  # a dataclass of `key`s: config keys under the method's name
    check: Callable[[Config], list[str]] = fits  # ConfigError for what cannot be; keys that have no effect
    memory: Callable[[Config], Memory | None] | None = None
    forked: Callable[[Config, int], Forked] | None = None  # of a config and a number of blocks
    shared: bool = False  # works only where all clients share directions
    comparable: bool = False  # clients send scalars of the same directions
    late: bool = False  # a step is a sum over clients, along directions that the round alone decides
    private: bool = False  # ... of the very scalars that clients send


@dataclass
class LocalOptions:
    """How a client trains with gradients."""

    optimizer: str = key("adamw", "what a client trains with; its state begins anew in every round", ("adamw", "sgd"))
    steps: int = key(1, "steps that a client does in a round, each on a mini-batch of its own; the rate is step.lr")
    epochs: int = key(0, "passes over its data that a client does in a round, instead of `steps`; 0: steps")
    betas: list[float] = key([0.9, 0.999], "AdamW's averaging of gradients and of their squares")
    eps: float = key(1e-8, "AdamW's term against division by zero")
    momentum: float = key(0.0, "SGD's momentum")
    weight_decay: float = key(0.0, "weight decay, of matrices; norms and biases have none")
    checkpointing: bool = key(False, "let a layer keep only its input for the backward, which computes the rest again")


@dataclass(frozen=True)
class Update:
    """What a client's training gave: the change of each block's vector (None: not trained), or with a `layout` the
    vectors themselves and what each block's holds; and what it cost."""

    vectors: tuple[NDArray[np.float32] | None, ...]
    loss: float
    block_evaluations: int
    flops: float
    backward_flops: float
    layout: tuple[VectorLayout, ...] = ()


Train = Callable[["BlockModel", RoundPlan, int, Row, Iterable["Batch"]], Update]


@dataclass(frozen=True)
class FirstOrder:
    """A method whose clients train with gradients and send tensors.

    train(model, plan, client, row, batches) → its update; there is one mini-batch for each local step. It leaves the
    model as it was. step(plan, reports, a, w) as above, from `Report.vectors`.
    """

    train: Train
    step: MakeStep
    options: type[LocalOptions] = LocalOptions
    check: Callable[[Config], list[str]] = fits


Method = ZeroOrder | FirstOrder
