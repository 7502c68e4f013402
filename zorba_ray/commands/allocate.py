"""`python -m zorba_ray.allocate [CONFIG] [key=value …]`: solve and explain a run's allocation without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.commands.signals import Signals, in_order
from zorba_ray.config.schema import Config
from zorba_ray.methods import kind_of
from zorba_ray.runs.config import load_config
from zorba_ray.runs.early import check_early
from zorba_ray.runs.folder import make_alone, make_named, writing_to

if TYPE_CHECKING:
    from zorba_ray.allocation import Instance, Plan

ALLOCATE = Program(
    "python -m zorba_ray.allocate",
    "Solve a run's allocation and explain it: tables on the screen, the matrix as Parquet and JSON, and a picture, in "
    "the folder `out` (or runs/NAME-allocation-TIME).",
    (Flag("--frontier", "sweep ε and draw the bound against VRAM, with the simple plans on it"),),
    (
        ("", "the embedded default"),
        ("opt125m_sst2 clients.count=1000 'allocation.epsilon=[0,0,0]'", "another config and other values"),
        ("--frontier", "also the frontier"),
    ),
    kinds=lambda: (kind_of(""),),
    hidden=("rounds", "placement", "fleet", "faults", "privacy", "evaluation", "guard", "stop", "runtime"),
)


def main(argv: Sequence[str] | None = None, name: str = ALLOCATE.name) -> int:
    """The command; its exit status."""
    return enter(replace(ALLOCATE, name=name), argv, allocate)


def allocate(command: Command) -> Done:
    signals = Signals(go_on=once_more)
    return in_order(signals, lambda: solve(command, signals))


def solve(command: Command, signals: Signals) -> Done:
    config = load_config(command.config_path, command.overrides, command.more)
    check_early(config)
    signals.folder = folder = make_folder(config)
    try:
        from zorba_ray.runs.prepare import load_problem

        problem = load_problem(config, asked=True)
        for note in problem.notes:
            print(f"Note: {note}.")
        plan = explain(config, problem.instance, "--frontier" in command.flags, folder, signals)
    finally:
        with suppress(OSError):  # only an empty one: made in vain
            folder.rmdir()
    return Done({"folder": folder, "plan": plan.to_json(), "notes": problem.notes})


def make_folder(config: Config) -> Path:
    """Before anything expensive: one that the user named (`out`), else one of its own."""
    if config.out:
        return make_named(Path(config.out))
    return make_alone(Path("runs") / f"{config.name}-allocation-{datetime.now():%Y%m%d-%H%M%S}")


def once_more(folder: Path) -> str:
    return f"What is in {folder} may not be all; give the same line again."


def explain(config: Config, instance: Instance, with_frontier: bool, folder: Path, signals: Signals) -> Plan:
    """Solve, print, and write to the folder."""
    from zorba_ray.allocation import NAMES, Bound, alternative, describe, make_plans
    from zorba_ray.report.allocation_tables import alternatives_table, blocks_table, bought, classes_table, levels_table

    strict = replace(config.allocation, epsilon=[0.0] * len(config.allocation.order))
    plan, without = make_plans(instance, [config.allocation, strict], config.seed)
    bound = Bound(instance)
    others = [describe(name, alternative(name, instance, config.seed), bound) for name in NAMES if name != plan.name]
    worst = config.allocation.vram == "worst"
    parts = [classes_table(instance, plan), blocks_table(instance, plan)]
    if plan.levels:
        parts.append(levels_table(plan, worst))
        if any(config.allocation.epsilon[:-1]):
            parts.append("\n".join(bought(without, plan)))
    parts.append(alternatives_table([plan, *others]))
    parts += [f"Note: {message}." for message in plan.messages]
    print("\n\n".join(parts))
    signals.begun = True
    with writing_to(folder, "the plan is above", "the same command again"):
        write(instance, plan, folder)
        if with_frontier:
            sweep(config, instance, others, folder)
    print(f"\nWritten to {folder}")
    return plan


def write(instance: Instance, plan: Plan, folder: Path) -> None:
    """allocation.json (what a run reads back), allocation.parquet (one row per client), allocation.png."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zorba_ray.report.allocation_figures import draw_plan

    (folder / "allocation.json").write_text(json.dumps(plan.to_json()), encoding="utf-8")
    names = [instance.name(block) for block in range(instance.blocks)]
    columns = {
        "client": np.arange(instance.clients),
        "class": [instance.class_names[k] for k in instance.class_of],
        "budget": instance.budgets.astype(np.int64),
        "vram": (instance.budgets - plan.slack).astype(np.int64),
        "flops": instance.compute(plan.matrix),
    } | {f"a:{name}": plan.matrix[:, block] for block, name in enumerate(names)}
    pq.write_table(pa.table(columns), folder / "allocation.parquet")
    draw_plan(instance, plan, folder / "allocation.png")


def sweep(config: Config, instance: Instance, others: Sequence[Plan], folder: Path) -> None:
    """frontier.json and frontier.png, and its table."""
    from zorba_ray.allocation.frontier import frontier
    from zorba_ray.config.units import format_bytes
    from zorba_ray.config.words import text_table
    from zorba_ray.report.allocation_figures import draw_frontier

    points = frontier(instance, config.allocation, config.seed)
    rows = [
        [f"{epsilon:g}", f"{plan.merit:.5g}", format_bytes(plan.vram), f"{plan.matrix.mean():.3f}"]
        for epsilon, plan in points
    ]
    print("\nFrontier\n" + text_table(["ε", "Merit", "VRAM, all", "Active share"], rows))
    data = [
        {"epsilon": epsilon, "merit": plan.merit, "vram": plan.vram, "limit": plan.limit,
         "active": float(plan.matrix.mean())}
        for epsilon, plan in points
    ]  # fmt: skip
    simple = [{"name": p.name, "merit": p.merit, "vram": p.vram, "feasible": p.feasible} for p in others]
    (folder / "frontier.json").write_text(json.dumps({"frontier": data, "alternatives": simple}), encoding="utf-8")
    draw_frontier(points, others, folder / "frontier.png")

