"""How far a study is, from its folder alone: whoever looks on needs no Ray and keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zorba_ray.studies.cells import Cell, Run, final_runs
from zorba_ray.studies.spec import Study
from zorba_ray.studies.store import choice_of, read_outcome, rounds_done, swept


@dataclass(frozen=True)
class Far:
    """A cell: runs that are done and all that there are, of its sweep and of its final ones; what is under way, as run,
    rounds done and rounds; rounds done of all."""

    cell: Cell
    sweep: tuple[int, int]
    finals: tuple[int, int]
    rate: float | None  # that was chosen; None: not yet, or none worked
    under_way: tuple[tuple[Run, int], ...]

    @property
    def over(self) -> bool:
        """All of it is done, or nothing more will come of it."""
        return self.sweep[0] == self.sweep[1] and (self.rate is None or self.finals[0] == self.finals[1])


def look(study: Study, cells: Sequence[Cell], folder: Path) -> list[Far]:
    """Of every cell."""
    return [far(study, cell, folder) for cell in cells]


def far(study: Study, cell: Cell, folder: Path) -> Far:
    sweep = swept(study, cell, folder)
    count = len(cell.rates) if len(cell.rates) > 1 else 0
    swept_out = sum(read_outcome(folder / run.folder) is not None for run in sweep)
    choice = choice_of(study, cell, folder) if swept_out == count else None
    finals = final_runs(study, cell, choice.rate) if choice else []
    done = sum(read_outcome(folder / run.folder) is not None for run in finals)
    going = [(run, rounds_done(folder / run.folder)) for run in (*sweep, *finals)
             if (folder / run.folder).is_dir() and read_outcome(folder / run.folder) is None]  # fmt: skip
    return Far(
        cell, (swept_out, count), (done, len(study.seeds)), choice.rate if choice else None, tuple(going)
    )
