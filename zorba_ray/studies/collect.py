"""The runs of a study, read from their folders into one tidy table: results.parquet, a row for each evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zorba_ray.records.stream import table
from zorba_ray.studies.cells import Cell, Run, final_runs
from zorba_ray.studies.choose import Choice
from zorba_ray.studies.spec import Study
from zorba_ray.studies.store import choice_of, read_outcome, swept

Floats = NDArray[np.float64]
RESULTS, RUNS = "results.parquet", "runs.parquet"
SUMMED = ("bytes_up", "bytes_down", "flops", "backward_flops")  # of the client records
NUMBER = 4  # bytes of an uploaded number


@dataclass(frozen=True)
class Result:
    """One run: how it ended, its curve and what it cost."""

    run: Run
    status: str
    message: str
    seconds: float
    curve: dict[str, Floats] = field(default_factory=dict)  # columns of CURVE at each evaluation
    reports: int = 0  # client-rounds, probes for statistics left out
    totals: dict[str, float] = field(default_factory=dict)  # of SUMMED over them
    vram: Floats = field(default_factory=lambda: np.zeros(0))  # most that each client needs, by the allocator's model

    @property
    def ok(self) -> bool:
        return self.status == "ok" and len(self.curve.get("rounds", ())) > 0

    def per_report(self, name: str) -> float:
        return self.totals[name] / self.reports if self.reports else 0.0


CURVE = ("rounds", "accuracy", "loss", "client_accuracy", "client_accuracy_worst", "bytes_up", "bytes_down",
         "bytes_per_client", "numbers_up", "flops", "backward_flops", "virtual_seconds", "seconds",
         "examples")  # fmt: skip
"""Costs are sums up to the evaluation: bytes and FLOPs over all clients, `bytes_per_client` up and down over the
number of clients, `numbers_up` uploaded numbers of 4 bytes; `examples` are those evaluated on. Columns that a run's
records do not have are NaN."""


@dataclass(frozen=True)
class Comparison:
    """A cell with everything that came of it."""

    cell: Cell
    choice: Choice | None
    sweep: list[Result]
    finals: list[Result]  # those that are results: ok, diverged, infeasible
    failed: list[Result]  # faults of the program, to be done again; they count for nothing


def collect(study: Study, cells: Sequence[Cell], folder: Path) -> list[Comparison]:
    """What the folder holds; runs that are not done are left out."""
    found = []
    for cell in cells:
        choice = choice_of(study, cell, folder)
        runs = final_runs(study, cell, choice.rate) if choice else []
        sweep = [result for run in swept(study, cell, folder) if (result := read_result(run, folder))]
        finals = [result for run in runs if (result := read_result(run, folder))]
        failed = [result for result in (*sweep, *finals) if result.status == "failed"]
        found.append(Comparison(cell, choice, sweep, [r for r in finals if r.status != "failed"], failed))
    return found


def read_result(run: Run, folder: Path) -> Result | None:
    place = folder / run.folder
    outcome = read_outcome(place)
    if outcome is None:
        return None
    ended = outcome.status, outcome.message, outcome.seconds
    if not (place / "records").is_dir():
        return Result(run, *ended)
    records = table(place)
    clients = records.filter(pc.equal(records["kind"], "client"))
    reports = clients.filter(pc.not_equal(clients["status"], "statistics"))
    return Result(
        run,
        *ended,
        curve=curve_of(records, run.config.clients.count),
        reports=reports.num_rows,
        totals={name: float(np.nansum(column(reports, name))) for name in SUMMED},
        vram=most_by(clients, "client", "predicted_bytes"),
    )


def curve_of(records: pa.Table, clients: int) -> dict[str, Floats]:
    """The columns of CURVE; costs are those of all rounds before the evaluation."""
    evaluations = records.filter(pc.equal(records["kind"], "evaluation")).sort_by("round")
    rounds = records.filter(pc.equal(records["kind"], "round")).sort_by("round")
    reports = records.filter(pc.equal(records["kind"], "client"))
    done = column(evaluations, "round")
    count = rounds.num_rows
    last = np.minimum(done.astype(np.int64), count)

    def so_far(per_round: Floats) -> Floats:
        return np.asarray(np.concatenate([[0.0], np.cumsum(per_round)])[last])

    def of_clients(name: str) -> Floats:
        at, values = column(reports, "round").astype(np.int64), column(reports, name)
        inside = at < count
        return np.bincount(at[inside], weights=values[inside], minlength=count).astype(np.float64)[:count]

    up, down = so_far(column(rounds, "bytes_up")), so_far(column(rounds, "bytes_down"))
    backward = np.nan_to_num(of_clients("backward_flops"))
    return {
        "rounds": done,
        **{name: column(evaluations, name) for name in CURVE[1:5]},
        "bytes_up": up,
        "bytes_down": down,
        "bytes_per_client": (up + down) / clients,
        "numbers_up": up / NUMBER,
        "flops": so_far(of_clients("flops")),
        "backward_flops": so_far(backward),
        "virtual_seconds": np.concatenate([[0.0], column(rounds, "virtual_seconds")])[last],
        "seconds": so_far(column(rounds, "seconds")),
        "examples": column(evaluations, "examples"),
    }


def column(rows: pa.Table, name: str) -> Floats:
    """A column as float64; null, and a column that the records do not have, are NaN."""
    if name not in rows.column_names:
        return np.full(rows.num_rows, np.nan)
    return np.asarray(pc.cast(rows[name], pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def most_by(rows: pa.Table, key: str, value: str) -> Floats:
    """The largest value of each key, in ascending order of keys."""
    grouped = rows.group_by(key).aggregate([(value, "max")]).sort_by(key)
    return column(grouped, f"{value}_max")


def write_tables(comparisons: Sequence[Comparison], folder: Path) -> None:
    """results.parquet (a row for each evaluation of each run) and runs.parquet (a row for each run)."""
    results = [(each, result) for each in comparisons for result in (*each.sweep, *each.finals)]
    evaluations: list[dict[str, object]] = []
    runs: list[dict[str, object]] = []
    for each, result in results:
        run = result.run
        named = {"arm": each.cell.arm.name, "setting": each.cell.setting, "phase": run.phase, "rate": run.rate,
                 "seed": str(run.seed), "status": result.status}  # fmt: skip
        for i in range(len(result.curve.get("rounds", ()))):
            evaluations.append({**named, **{name: float(result.curve[name][i]) for name in CURVE}})
        runs.append({**named, "method": run.config.method, "message": result.message, "wall_seconds": result.seconds,
                     "reports": result.reports, **{name: result.totals.get(name) for name in SUMMED},
                     "vram": result.vram.tolist()})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(evaluations), folder / RESULTS, compression="zstd")
    pq.write_table(pa.Table.from_pylist(runs), folder / RUNS, compression="zstd")
