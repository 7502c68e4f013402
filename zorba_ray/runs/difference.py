"""Where two runs part: the first line of their ledgers that differs, in what, and what may be the cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.ledger import entry_text, read_ledger
from zorba_ray.messages import Header, Step, TensorStep
from zorba_ray.noise import Direction
from zorba_ray.records.schema import ClientRecord
from zorba_ray.rounds.allocator import plan_in
from zorba_ray.runs.bound import begun_with, show
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.plans import read_plans
from zorba_ray.runs.retrace import tell
from zorba_ray.runs.summary import FILE, read_summary, unlike


@dataclass(frozen=True)
class Coefficient:
    """The first number of a step that differs, of how many: what `block` moves by along `direction` (of tensors: number
    `index` of its vector), in either run."""

    block: str
    direction: Direction | None
    index: int
    values: tuple[float, float]
    differing: int
    of: int


@dataclass(frozen=True)
class Difference:
    """Two runs beside each other: rounds that each has done, the round at which they part (None: neither ledger
    contradicts the other), and `header` entries that differ before any round. `reports`: how the clients' records of
    that round differ. `causes`: the likeliest first; none: nothing that was recorded tells the runs apart."""

    folders: tuple[Path, Path]
    rounds: tuple[int, int]
    header: tuple[str, ...]
    round: int | None
    coefficient: Coefficient | None
    losses: tuple[float, float] | None  # in the ledgers, of that round
    reports: tuple[str, ...]
    causes: tuple[str, ...]

    @property
    def alike(self) -> bool:
        """Whether one ledger is the other, or its beginning."""
        return self.round is None and not self.header


def difference(a: Path, b: Path) -> Difference:
    """Compare two runs, to the bit."""
    ours, theirs = read_ledger(a / LEDGER), read_ledger(b / LEDGER)
    header = tuple(differing(ours.header, theirs.header))
    pairs = zip(ours.entries, theirs.entries, strict=False)
    round = next((x.round for x, y in pairs if entry_text(x) != entry_text(y)), None)
    coefficient, losses = None, None
    reports: tuple[str, ...] = ()
    if round is not None:
        x, y = ours.entries[round], theirs.entries[round]
        losses = x.loss, y.loss
        reports = tuple(reports_of(a, b, round))
        if ours.header.blocks == theirs.header.blocks:
            coefficient = first_coefficient(ours.header, theirs.header, x.step, y.step)
    parted = round is not None or header
    causes = tuple(causes_of(a, b, round or 0)) if parted else ()
    done = len(ours.entries), len(theirs.entries)
    return Difference((a, b), done, header, round, coefficient, losses, reports, causes)


def differing(ours: Header, theirs: Header) -> Iterator[str]:
    for name in ("method", "seed", "noise"):
        if getattr(ours, name) != getattr(theirs, name):
            yield f"{name}: {getattr(ours, name)} against {getattr(theirs, name)}"
    if ours.base_sha256 != theirs.base_sha256:
        yield f"base weights: {ours.base_sha256[:16]}… against {theirs.base_sha256[:16]}…"
    if ours.blocks != theirs.blocks:
        yield f"blocks: {len(ours.blocks)} against {len(theirs.blocks)}, or other names and sizes"


def first_coefficient(ours: Header, theirs: Header, x: Step, y: Step) -> Coefficient | None:
    """Block by block in the model's order; None where both steps move the weights alike."""
    first: Coefficient | None = None
    differing = total = 0
    for block, info in enumerate(ours.blocks):
        directions, mine, other = moves(ours, theirs, x, y, block)
        places = np.flatnonzero(mine != other)
        total, differing = total + len(mine), differing + len(places)
        if first is None and len(places):
            j = int(places[0])
            values = float(mine[j]), float(other[j])
            first = Coefficient(info.name, directions[j] if directions else None, j, values, 0, 0)
    return replace(first, differing=differing, of=total) if first else None


def moves(
    ours: Header, theirs: Header, x: Step, y: Step, block: int
) -> tuple[list[Direction], NDArray[Any], NDArray[Any]]:
    """What a block moves by in either run: coefficients of directions (0 where a run has not that one), or numbers of
    a vector, which have no directions."""
    if isinstance(x, TensorStep) or isinstance(y, TensorStep):
        found = [step.vectors.get(block) if isinstance(step, TensorStep) else None for step in (x, y)]
        nothing = np.zeros(ours.blocks[block].size, dtype=np.float32)
        mine, other = (nothing if vector is None else vector for vector in found)
        return [], mine, other
    terms = dict(x.terms(ours.seed, block)), dict(y.terms(theirs.seed, block))
    directions = list(dict.fromkeys([*terms[0], *terms[1]]))
    mine, other = (np.array([each.get(direction, 0.0) for direction in directions]) for each in terms)
    return directions, mine, other


def reports_of(a: Path, b: Path, round: int) -> Iterator[str]:
    """What the clients' records of a round say otherwise: of the first kind in which they differ."""
    ours, theirs = members_of(a, round), members_of(b, round)
    if ours is None or theirs is None:
        yield "the round is not in the records of both"
        return
    if ours.keys() != theirs.keys():
        only = [sorted(mine.keys() - other.keys()) for mine, other in ((ours, theirs), (theirs, ours))]
        yield f"other clients took part: {only[0]} only in {a}, {only[1]} only in {b}"
        return
    fates = [n for n in ours if ours[n].status != theirs[n].status]
    if fates:
        n = fates[0]
        yield f"{len(fates)} clients fared otherwise, first client {n}: {ours[n].status} against {theirs[n].status}"
    pairs = {n: (np.array(ours[n].scalars, np.float32), np.array(theirs[n].scalars, np.float32)) for n in ours}
    sent = [n for n, (x, y) in pairs.items() if x.tobytes() != y.tobytes()]
    if sent and all(len(x) == len(y) for x, y in pairs.values()):
        x, y = pairs[sent[0]]
        j = int(np.flatnonzero(x.view(np.uint32) != y.view(np.uint32))[0])
        yield (f"{len(sent)} of {len(ours)} clients sent other scalars, first client {sent[0]}, number {j}: "
               f"{x[j]:.9g} against {y[j]:.9g}")  # fmt: skip
    elif sent:
        yield f"clients sent other numbers of scalars: {len(pairs[sent[0]][0])} against {len(pairs[sent[0]][1])}"
    elif not fates:
        yield f"all {len(ours)} clients sent the same scalars"


def members_of(folder: Path, round: int) -> dict[int, ClientRecord] | None:
    for told in tell(folder):
        if told.round is not None and told.round.round == round:
            return {each.client: each for each in told.members}
    return None


def causes_of(a: Path, b: Path, round: int) -> Iterator[str]:
    """What is recorded of the two runs and differs, in the order in which it explains: the config, who had which
    blocks, the machine."""
    ours, theirs = begun_with(a), begun_with(b)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"config: {name} is {show(ours.get(name))} against {show(theirs.get(name))}"
    mine, other = (plan_in(plans, round).matrix if (plans := read_plans(folder)) else None for folder in (a, b))
    if mine is not None and other is not None and mine.shape == other.shape and (mine != other).any():
        rows = np.flatnonzero((mine != other).any(axis=1))
        x, y = (np.flatnonzero(each[rows[0]]).tolist() for each in (mine, other))
        yield f"allocation: {len(rows)} clients have other blocks, first client {rows[0]}: {x} against {y}"
    if (a / FILE).is_file() and (b / FILE).is_file():
        one, two = read_summary(a), read_summary(b)
        if one.version != two.version:
            yield f"version: zorba_ray {one.version} against {two.version}"
        yield from (f"environment: {each}" for each in unlike(one.environment, two.environment))
