"""How a run stands, from its folder, whether it has ended, goes on, or was cut off before it could say so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import has_header, ledger_sha256
from zorba_ray.records.stream import read_parts
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.lock import is_held
from zorba_ray.runs.summary import FILE, Summary, read_summary, summarise

GOING, CUT = "still going", "cut off"


@dataclass(frozen=True)
class State:
    words: str  # complete | interrupted | stopped early | still going | cut off

    @property
    def complete(self) -> bool:
        return self.words == "complete"


def state_of(folder: Path, config: Config) -> tuple[Summary, State]:
    """The summary that the run wrote of this ledger, or else one of what its records hold so far."""
    if (folder / FILE).is_file():
        summary = read_summary(folder)
        if not (folder / LEDGER).is_file() or summary.ledger_sha256 == ledger_sha256(folder / LEDGER):
            said = "stopped early" if summary.stopped else "interrupted" if summary.interrupted else "complete"
            return summary, State(said)
    if not has_header(folder / LEDGER):
        raise ConfigError(f"{folder} has no {FILE} and no ledger: it is no run's folder, or the run never began")
    words = GOING if is_held(folder) else CUT
    summary = summarise(
        config, read_parts(folder), folder / LEDGER, placement="", model_sha256="", seconds=0.0, environment={},
        interrupted=True,
    )  # fmt: skip
    summary.seconds = summary.seconds_rounds
    summary.notes = [f"the run is {words}: this is what its records held, {summary.rounds_done:,} rounds"]
    return summary, State(words)
