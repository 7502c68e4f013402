"""Training, as section 2 of the design tells it. Where clients compute is the backend's business."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import Entry, LedgerWriter, Step, read_ledger
from zorba_ray.methods import METHODS
from zorba_ray.methods.fedkseed import History
from zorba_ray.rounds.allocator import Allocated, Allocator
from zorba_ray.rounds.plan import Report, RoundPlan, plan_round
from zorba_ray.rounds.tally import Tally


class Diverged(ConfigError):
    """The run went wrong; the ledger ends at the last good round."""


class Backend(Protocol):
    """Carries out probes, steps and evaluations; in this process, or on a Ray cluster."""

    def probe(self, plan: RoundPlan, active: NDArray[np.bool_]) -> list[Report]:
        """One report per participant, in ascending order of clients; `active` is a [N, L]."""

    def apply(self, step: Step) -> None:
        """Move everybody's weights."""

    def evaluate(self) -> Tally:
        """The whole test data at the current weights."""


@dataclass(frozen=True)
class RoundDone:
    plan: RoundPlan
    reports: list[Report]
    step: Step
    loss: float


@dataclass(frozen=True)
class Evaluated:
    """Accuracy and mean loss on the test data after `rounds` rounds."""

    rounds: int
    accuracy: float
    loss: float
    examples: int


def train(
    config: Config,
    backend: Backend,
    ledger: LedgerWriter,
    allocator: Allocator,
    weights: NDArray[np.float64],
    first_loss: float | None = None,
    evaluated: frozenset[int] = frozenset(),
) -> Iterator[RoundDone | Evaluated | Allocated]:
    """Go on from the ledger's end to the last round, yielding what happens. Stop between rounds at will.

    `weights` are the clients' weights w [N]; of a resumed run, `first_loss` is that of round 0 and `evaluated` the
    numbers of rounds after which it was evaluated.
    """
    method = METHODS[config.method]
    history = None
    if config.method == "fedkseed" and config.pool.draw == "pro":
        history = History(config.pool.size, (entry.step for entry in read_ledger(ledger.path).entries))
    if is_due(config, ledger.rounds) and ledger.rounds not in evaluated:
        yield _evaluated(ledger.rounds, backend.evaluate())
    for t in range(ledger.rounds, config.rounds):
        if allocator.is_due(t):
            yield allocator.allocate(t, backend)
        plan, active = plan_round(config, t, history.chances() if history else None), allocator.active_in(t)
        reports = backend.probe(plan, active)
        loss = mean_loss(reports, weights)
        first_loss = loss if first_loss is None else first_loss
        _refuse_divergence(config, t, loss, first_loss, reports)
        step = method.step(plan, reports, active, weights)
        ledger.append(Entry(step, loss))
        if history:
            history.add(step)
        backend.apply(step)
        yield RoundDone(plan, reports, step, loss)
        if is_due(config, t + 1):
            yield _evaluated(t + 1, backend.evaluate())


def is_due(config: Config, rounds: int) -> bool:
    """Whether the model is evaluated after so many rounds: before the first, every few, and after the last."""
    return rounds % config.evaluation.every == 0 or rounds == config.rounds


def mean_loss(reports: Sequence[Report], weights: NDArray[np.float64]) -> float:
    """Participants' losses, averaged with their weights, one after the other."""
    total = sum(float(weights[report.client]) for report in reports)
    return sum(float(weights[report.client]) * report.loss for report in reports) / total


def _refuse_divergence(config: Config, t: int, loss: float, first: float, reports: Sequence[Report]) -> None:
    strange = [report.client for report in reports if not np.isfinite(report.scalars).all()]
    if not math.isfinite(loss) or strange:
        who = f"client {strange[0]} reported a scalar that is not finite" if strange else "the loss is not finite"
        raise Diverged(f"diverged at round {t}: {who}; the ledger keeps the {t} good rounds. Lower step.lr or zo.mu")
    limit = config.guard.loss_multiple * first
    if loss > limit:
        raise Diverged(
            f"diverged at round {t}: the mean loss {loss:.4g} exceeds {config.guard.loss_multiple:g} times that of "
            f"round 0 ({first:.4g}); the ledger keeps the {t} good rounds. Lower step.lr (now {config.step.lr:g})"
        )


def _evaluated(rounds: int, tally: Tally) -> Evaluated:
    return Evaluated(rounds, tally.correct / tally.count, tally.loss_sum / tally.count, tally.count)
