"""What the ledger's tools found, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from zorba_ray.config.words import percent
from zorba_ray.noise import Direction
from zorba_ray.runs.audit import Audit
from zorba_ray.runs.difference import Difference
from zorba_ray.runs.evaluate import Evaluation
from zorba_ray.runs.verify import Verified

MOST = 8  # causes that are told; of the others the number


def verified_lines(verified: Verified) -> Iterator[str]:
    width = max(len(check.name) for check in verified.checks)
    yield f"{verified.folder}"
    for check in verified.checks:
        lines = [f"WRONG: {problem}" for problem in check.wrong] or [check.found]
        yield f"  {check.name:<{width}}  {lines[0]}"
        yield from (f"  {'':<{width}}  {line}" for line in lines[1:])
    failed = sum(bool(check.wrong) for check in verified.checks)
    yield "whole" if verified.whole else f"{failed} of {len(verified.checks)} checks failed"


def audit_lines(audit: Audit) -> Iterator[str]:
    yield f"client {audit.client}, round {audit.round}: computed again from config and ledger"
    yield f"  compared   {', '.join(audit.compared)}"
    yield from (f"  DIFFERS    {each}" for each in audit.differs)
    yield from (f"  elsewhere  {each} (recorded against here)" for each in audit.elsewhere)
    if audit.same:
        yield "the same, to the bit, as was recorded"
    elif audit.elsewhere:
        yield "not what was recorded, as may be on another machine: bits of kernels are promised on equal ones only"
    else:
        yield "not what was recorded, though the machine is like the one that recorded it"


def difference_lines(found: Difference) -> Iterator[str]:
    a, b = found.folders
    yield f"{a}: {found.rounds[0]} rounds; {b}: {found.rounds[1]} rounds"
    yield from (f"  header       {each}" for each in found.header)
    if found.round is None:
        yield f"the first {min(found.rounds)} rounds are the same, to the bit"
        return
    yield f"  they part    at round {found.round}"
    if found.coefficient is not None:
        first = found.coefficient
        where = direction_words(first.direction) if first.direction else f"number {first.index} of its vector"
        yield f"  first        block {first.block}, {where}: {first.values[0]:.9g} against {first.values[1]:.9g}"
        yield f"  differing    {first.differing} of {first.of} numbers that the round moves by"
    elif found.losses is not None:
        yield "  the weights  move alike; what else the ledger's line says differs"
    if found.losses is not None and found.losses[0] != found.losses[1]:
        yield f"  mean loss    {found.losses[0]:.9g} against {found.losses[1]:.9g}"
    yield from (f"  reports      {each}" for each in found.reports)
    for place, each in enumerate(found.causes[:MOST]):
        yield f"  {'also' if place else 'likely cause':<12} {each}"
    if len(found.causes) > MOST:
        yield f"  {'also':<12} {len(found.causes) - MOST} more"
    if not found.causes:
        yield "nothing that was recorded tells the two apart: --audit a client of that round, in either run"


def direction_words(direction: Direction) -> str:
    """Where a direction comes from, as the ledger counts."""
    own = f" of client {direction.client - 1}" if direction.client else ""
    step = f", local step {direction.step}" if direction.step else ""
    return f"direction {direction.direction}{own}{step} (round {direction.round})"


def evaluation_lines(found: Evaluation) -> Iterator[str]:
    data = f"{found.examples} examples of {found.task}"
    yield f"after {found.rounds} rounds on {data}: accuracy {percent(found.accuracy)}, loss {found.loss:.4f}"
    if found.recorded is not None:
        accuracy, loss = found.recorded
        yield f"the run's own evaluation there: accuracy {percent(accuracy)}, loss {loss:.4f}"
