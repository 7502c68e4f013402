"""What the records tell a run that goes on, read part by part: of the many client records little is wanted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from zorba_ray.records.schema import SCHEMA
from zorba_ray.records.stream import DamagedPart, Part, kept, parts, read_part

COST = ["round", "flops", "backward_flops"]


@dataclass(frozen=True)
class Past:
    """The records of earlier sittings, in their order."""

    rounds: pa.Table
    evaluations: pa.Table
    late: pa.Table  # client records of reports that came too late
    costs: pa.Table  # columns of COST of all client records
    members: Counter[int]  # how many clients have a record of their part in each round

    def before(self, round: int) -> Past:
        """What stays where all from `round` on is done again, as `records.stream.truncate` says."""
        rounds, evaluations, late = (kept(table, round) for table in (self.rounds, self.evaluations, self.late))
        costs = self.costs.filter(pc.less(self.costs["round"], round))
        return Past(rounds, evaluations, late, costs, self.members)

    @property
    def whole(self) -> set[int]:
        """Rounds of which all records are there."""
        pairs = zip(self.rounds["round"].to_pylist(), self.rounds["participants"].to_pylist(), strict=True)
        return {t for t, participants in pairs if self.members[t] == participants}

    @property
    def evaluated(self) -> frozenset[int]:
        """Numbers of rounds after which the model was evaluated."""
        return frozenset(self.evaluations["round"].to_pylist())


def nothing() -> Past:
    """Of a run that has not begun."""
    empty = SCHEMA.empty_table()
    return Past(empty, empty, empty, empty.select(COST), Counter())


def read_past(folder: Path, damaged: list[Part] | None = None) -> Past:
    """Files that cannot be read go into `damaged`, where that is given."""
    found = [SCHEMA.empty_table()]
    costs = [SCHEMA.empty_table().select(COST)]
    members: Counter[int] = Counter()
    for file in parts(folder):
        try:
            part = read_part(file)
        except DamagedPart:
            if damaged is None:
                raise
            damaged.append(file)
            continue
        few = pc.or_kleene(pc.not_equal(part["kind"], "client"), pc.equal(part["status"], "late"))
        found.append(part.filter(few))
        clients = of_kind(part, "client")
        costs.append(clients.select(COST))
        asked = pc.value_counts(clients["round"].filter(pc.not_equal(clients["status"], "statistics")))
        members.update(dict(zip(*(field.to_pylist() for field in asked.flatten()), strict=True)))
    whole = pa.concat_tables(found)
    rounds, evaluations, late = (of_kind(whole, kind) for kind in ("round", "evaluation", "client"))
    return Past(rounds, evaluations, late, pa.concat_tables(costs), members)


def of_kind(records: pa.Table, kind: str) -> pa.Table:
    return records.filter(pc.equal(records["kind"], kind))
