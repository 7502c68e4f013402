"""Training, as section 2 of the design tells it. Where clients compute is the backend's business."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.ledger import Entry, LedgerWriter, read_ledger
from zorba_ray.messages import Report, Reports, RoundPlan, Step, Tally
from zorba_ray.methods import Memory, Method, ZeroOrder, method_of
from zorba_ray.methods.average import in_order
from zorba_ray.rounds.allocator import Allocated, Allocator
from zorba_ray.rounds.draw import plan_round
from zorba_ray.world.step import step_of
from zorba_ray.world.world import Diverged, Judged, World


class Backend(Protocol):
    """Carries out probes, steps and evaluations; in this process, or on a Ray cluster."""

    def probe(self, plan: RoundPlan, active: NDArray[np.bool_]) -> Sequence[Report]:
        """One report per participant, in ascending order of clients; `active` is a [N, L]."""

    def apply(self, step: Step) -> None:
        """Move everybody's weights."""

    def evaluate(self) -> Tally:
        """The whole test data at the current weights."""


@dataclass(frozen=True)
class RoundDone:
    plan: RoundPlan
    judged: Judged
    step: Step
    loss: float  # NaN where nobody was counted


@dataclass(frozen=True)
class Evaluated:
    """Accuracy and mean loss on the test data after `rounds` rounds; of generated answers, exact matches."""

    rounds: int
    accuracy: float
    loss: float
    examples: int
    right: bytes  # of each test example, see `Tally`
    score: float | None = None  # mean over generated answers


def train(
    config: Config,
    backend: Backend,
    ledger: LedgerWriter,
    allocator: Allocator,
    world: World,
    weights: NDArray[np.float64],
    first_loss: float | None = None,
    evaluated: frozenset[int] = frozenset(),
) -> Iterator[RoundDone | Evaluated | Allocated]:
    """Go on from the ledger's end to the last round, yielding what happens. Stop between rounds at will.

    `world` has lived through the ledger's rounds; `weights` are the clients' weights w [N]; of a resumed run,
    `first_loss` is that of the first round that had any, and `evaluated` the numbers of rounds after which it was
    evaluated.
    """
    method = method_of(config)
    memory = memory_of(method, config)
    if memory:
        for entry in read_ledger(ledger.path).entries:
            memory.add(entry.step)
    plan_of = partial(plan_round, config)
    if is_due(config, ledger.rounds) and ledger.rounds not in evaluated:
        yield evaluated_after(ledger.rounds, backend.evaluate())
    for t in range(ledger.rounds, config.rounds):
        if allocator.is_due(t):
            yield allocator.allocate(t, backend.probe)
        active = allocator.active_in(t)
        chosen = world.begin(t, active)
        plan = plan_round(config, t, chosen.reporting, memory.told() if memory else None)
        judged = world.judge(chosen, backend.probe(plan, active) if chosen.reporting else [])
        loss = mean_loss(judged.counted, weights)
        first_loss = loss if first_loss is None and judged.counted else first_loss
        _refuse_divergence(config, t, loss, first_loss)
        step = step_of(config, judged, plan, method.step, allocator.active_in, plan_of, weights)
        step = ledger.append(Entry(step, loss)).step
        world.end(judged, step)
        if memory:
            memory.add(step)
        backend.apply(step)
        yield RoundDone(plan, judged, step, loss)
        if is_due(config, t + 1):
            yield evaluated_after(t + 1, backend.evaluate())


def memory_of(method: Method, config: Config) -> Memory | None:
    """Where the method remembers the ledger's steps; None: it needs none."""
    return method.memory(config) if isinstance(method, ZeroOrder) and method.memory else None


def is_due(config: Config, rounds: int) -> bool:
    """Whether the model is evaluated after so many rounds: before the first, every few, and after the last."""
    return rounds % config.evaluation.every == 0 or rounds == config.rounds


def mean_loss(reports: Sequence[Report], weights: NDArray[np.float64]) -> float:
    """Participants' losses, averaged with their weights, one after the other; NaN without participants."""
    if not reports:
        return math.nan
    reports = Reports.of(reports)
    shares = weights[reports.client]
    return float((in_order(shares * reports.loss) / in_order(shares)).item())


def _refuse_divergence(config: Config, t: int, loss: float, first: float | None) -> None:
    if first is not None and loss > config.guard.loss_multiple * first:
        raise Diverged(
            f"diverged at round {t}: the mean loss {loss:.4g} exceeds {config.guard.loss_multiple:g} times that of "
            f"the first ({first:.4g}); the ledger keeps the {t} good rounds. Lower step.lr (now {config.step.lr:g})"
        )


def evaluated_after(rounds: int, tally: Tally) -> Evaluated:
    loss = tally.loss_sum / (tally.tokens or tally.count)
    score = None if tally.score is None else tally.score / tally.count
    return Evaluated(rounds, tally.correct / tally.count, loss, tally.count, tally.right, score)
