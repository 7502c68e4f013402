"""A run that goes on begins where everything on disk agrees: what was lost or damaged behind that is done again.

A round is a pure function of the rounds before it, so doing it again gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import Ledger, has_header, read_ledger, truncate_ledger
from zorba_ray.ledger.snapshot import remove_torn
from zorba_ray.records.stream import FOLDER, Part, parts, truncate
from zorba_ray.runs.bound import refuse_another_run
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.past import Past, read_past


@dataclass(frozen=True)
class Rewound:
    """What is whole of a run, as it now lies on disk, and what there is to say of the rest."""

    ledger: Ledger
    past: Past
    notes: list[str]


def earlier(folder: Path, config: Config) -> Rewound | None:
    """What is whole of a run that goes on, with this config; None where its ledger was not begun."""
    if not has_header(folder / LEDGER):
        refuse_lost_ledger(folder)
        return None
    said = refuse_another_run(config, folder)
    found = rewind(folder, config)
    return replace(found, notes=said + found.notes)


def rewind(folder: Path, config: Config) -> Rewound:
    """Go back to the last round up to which ledger and records are whole. Each is read once: a long run has much."""
    ledger = read_ledger(folder / LEDGER)
    refuse_fewer_rounds(config, len(ledger.entries))
    notes = [f"the ledger's torn end was removed ({ledger.cut})"] if ledger.cut else []
    damaged: list[Part] = []
    past = read_past(folder, damaged)
    for part in damaged:  # hidden from all readers; it may still be of use to somebody
        part.path.rename(part.path.with_name(f".damaged-{part.path.name}"))
    unread = f"{', '.join(part.name for part in damaged)} could not be read: " if damaged else ""
    done = len(ledger.entries)
    rounds = min(done, whole_rounds(past.whole, past.evaluated, config.evaluation.every))
    if rounds < done:
        notes.append(f"{unread}the records of rounds {rounds} to {done - 1} were lost; they are done again")
        ledger = truncate_ledger(folder / LEDGER, ledger, rounds)
    elif damaged:
        notes.append(f"{unread}nothing in it was of use")
    truncate(folder / FOLDER, rounds)
    remove_torn(folder)
    return Rewound(ledger, past.before(rounds), notes)


def whole_rounds(rounds: Collection[int], evaluated: Collection[int], every: int) -> int:
    """How many rounds, from the first, have their records, and the evaluations that were due between them."""
    whole = 0
    while whole in rounds and (whole % every or whole in evaluated):
        whole += 1
    return whole


def refuse_fewer_rounds(config: Config, done: int) -> None:
    if config.rounds < done:
        raise ConfigError(f"rounds is {config.rounds}, and {done} are done: a run does not go back; set {done} or more")


def refuse_lost_ledger(folder: Path) -> None:
    """Records without a ledger are no beginning: to begin anew would remove them."""
    if parts(folder):
        raise ConfigError(f"{folder} has records but no {LEDGER}, which alone is the run; restore it from a copy")
