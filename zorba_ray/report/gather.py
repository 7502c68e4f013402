"""What the report needs of a run folder, small whatever the run's size: records are read part by part and reduced."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zorba_ray.allocation.plan import Plan
from zorba_ray.config import load
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import read_ledger
from zorba_ray.methods import kind_of
from zorba_ray.records.stream import read_parts
from zorba_ray.report.curves import Curves, add_work, curves_of
from zorba_ray.report.fleet import Fleet, read_fleet
from zorba_ray.runs.dealt import Dealt, read_dealt
from zorba_ray.runs.folder import ALLOCATION, CONFIG, LEDGER, STATISTICS
from zorba_ray.runs.memory import ClassMemory, read_memory
from zorba_ray.runs.plans import read_plans
from zorba_ray.runs.state import State, state_of
from zorba_ray.runs.summary import Summary
from zorba_ray.runs.trust import refuse_method_file
from zorba_ray.world.budgets import client_budgets

SAMPLE = 4096  # scalars taken from one part of the records, evenly spread
SUMS = ("samples", "loss", "forwards", "flops", "bytes_up", "bytes_down", "seconds")
MEASURED = ("allocated_bytes", "measured_bytes")


@dataclass(frozen=True)
class BudgetClass:
    """The clients of one class, and what they did over the whole run."""

    name: str
    members: NDArray[np.int64]  # client numbers
    budget: float  # bytes of one client; the least, where they differ
    predicted_least: float  # VRAM by the allocator's model, over the members
    predicted_most: float
    active_blocks: float  # mean over the members
    reports: int  # client records
    sums: dict[str, float]  # of SUMS over those records
    measured: dict[str, int]  # the most of MEASURED in those records that have it


@dataclass(frozen=True)
class Run:
    """A run, read for its report."""

    folder: Path
    config: Config
    config_text: str
    summary: Summary
    state: State
    curves: Curves
    plan: Plan
    blocks: list[str]
    classes: list[BudgetClass]  # by ascending budget
    memory: dict[str, ClassMemory]  # by class, under the first plan; empty where it was not kept
    rounds: dict[str, NDArray[Any]]  # columns of the round records, in order
    evaluations: dict[str, NDArray[Any]]
    scalars: NDArray[np.float32]  # all of them, or an even sample
    scalars_count: int
    spread: Spread | None
    plans: dict[int, Plan]  # by the round from which each holds
    fleet: Fleet
    dealt: Dealt | None  # who has which data; None where it was not kept


@dataclass(frozen=True)
class Spread:
    """Mean square of each client's scalars while the first plan was in force: what the bound's statistics say it is,
    `E ρ² = Σ_{l∈A_n} G_l + σ_l² + ζ_l²`, and what came. One entry per client with reports and active blocks."""

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    estimated: bool  # the statistics come from probes; else from the config


def read_run(folder: Path, trusted: bool = False) -> Run:
    """Read everything that a report shows; ConfigError where the folder is not that of a run. `trusted`: a method file
    that its config names may run."""
    refuse_method_file(folder, trusted)
    config = load.load_config(folder / CONFIG, kind_of=kind_of, elsewhere=True)  # valid when the run began
    summary, state = state_of(folder, config)
    plan = Plan.from_json(json.loads(_text(folder / ALLOCATION)))
    blocks = [block.name for block in read_ledger(folder / LEDGER).header.blocks]
    rounds, evaluations, clients, scalars, count, work = reduce_records(folder)
    memory = {row.name: row for row in read_memory(folder)}
    return Run(
        folder=folder,
        config=config,
        config_text=_text(folder / CONFIG),
        summary=summary,
        state=state,
        curves=curves_of(rounds, evaluations, work),
        plan=plan,
        blocks=blocks,
        classes=budget_classes(config, plan, clients),
        memory=memory,
        rounds=rounds,
        evaluations=evaluations,
        scalars=scalars,
        scalars_count=count,
        spread=scalar_spread(folder, config, plan),
        plans=read_plans(folder),
        fleet=read_fleet(folder, rounds, config.clients.count),
        dealt=read_dealt(folder),
    )


def scalar_spread(folder: Path, config: Config, plan: Plan) -> Spread | None:
    """Predicted against observed mean squares; None where plans rotate: a client's blocks change each round."""
    if config.allocation.rotate:
        return None
    statistics = json.loads(_text(folder / STATISTICS.format("")))
    until = config.allocation.every or config.rounds
    total, count = np.zeros(len(plan.matrix)), np.zeros(len(plan.matrix))
    for part in read_parts(folder):
        mine = pc.and_(pc.equal(part["status"], "ok"), pc.less(part["round"], until))
        rows = part.filter(pc.and_(pc.equal(part["kind"], "client"), mine))
        squares = rows["scalar_mean"].to_numpy() ** 2 + rows["scalar_std"].to_numpy() ** 2
        np.add.at(total, rows["client"].to_numpy(), squares)
        np.add.at(count, rows["client"].to_numpy(), 1)
    per_block = sum(np.asarray(statistics[name]) for name in ("gradient", "batch_variance", "client_variance"))
    seen = (count > 0) & plan.matrix.any(axis=1)
    predicted = (plan.matrix @ per_block)[seen]
    return Spread(predicted, total[seen] / count[seen], bool(statistics["estimated"])) if seen.any() else None


def reduce_records(
    folder: Path,
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, dict[str, float]], NDArray[np.float32], int,
    dict[int, float],
]:  # fmt: skip
    """Round and evaluation columns, sums by budget class, a sample of the scalars, how many there were, and FLOPs by
    round."""
    work: dict[int, float] = {}
    rounds, evaluations, sums, samples = [], [], [], [np.zeros(0, dtype=np.float32)]
    count = 0
    for part in read_parts(folder):
        rounds.append(part.filter(pc.equal(part["kind"], "round")))
        evaluations.append(part.filter(pc.equal(part["kind"], "evaluation")))
        add_work(work, part)
        clients = part.filter(pc.and_(pc.equal(part["kind"], "client"), pc.equal(part["status"], "ok")))
        wanted = [("round", "count"), *((name, "sum") for name in SUMS), *((name, "max") for name in MEASURED)]
        sums.append(clients.group_by("budget_class").aggregate(wanted))
        values = pc.list_flatten(clients["scalars"]).to_numpy()
        count += len(values)
        samples.append(values[:: max(1, len(values) // SAMPLE)])
    by_class: dict[str, dict[str, float]] = {}
    for row in pa.concat_tables(sums).to_pylist() if sums else []:
        total = by_class.setdefault(row.pop("budget_class"), {})
        for name, value in row.items():
            before, now = total.get(name, 0), value or 0
            total[name] = max(before, now) if name.endswith("_max") else before + now
    return _columns(rounds), _columns(evaluations), by_class, np.concatenate(samples), count, work


def budget_classes(config: Config, plan: Plan, done: dict[str, dict[str, float]]) -> list[BudgetClass]:
    """The classes by ascending budget, with what their clients may use, would use and did."""
    budgets = client_budgets(config.clients, config.seed)
    predicted = budgets.bytes - plan.slack
    classes = []
    for index, name in enumerate(budgets.names):
        members = np.flatnonzero(budgets.class_of == index)
        if len(members) == 0:
            continue
        sums = done.get(name, {})
        classes.append(
            BudgetClass(
                name=name,
                members=members,
                budget=float(budgets.bytes[members].min()),
                predicted_least=float(predicted[members].min()),
                predicted_most=float(predicted[members].max()),
                active_blocks=float(plan.matrix[members].sum(axis=1).mean()),
                reports=int(sums.get("round_count", 0)),
                sums={key: float(sums.get(f"{key}_sum", 0.0)) for key in SUMS},
                measured={key: int(most) for key in MEASURED if (most := sums.get(f"{key}_max", 0))},
            )
        )
    return sorted(classes, key=lambda each: each.budget)


def _columns(tables: list[pa.Table]) -> dict[str, NDArray[Any]]:
    if not tables:
        return {}
    whole = pa.concat_tables(tables).sort_by("round")
    return {name: whole[name].to_numpy() for name in whole.column_names if name not in ("kind", "scalars")}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; a report needs the whole folder of a run") from None
