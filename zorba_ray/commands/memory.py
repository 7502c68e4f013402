"""`zorba-ray memory [CONFIG] [key=value …]`: what clients need of VRAM, class by class, and of what it consists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.config.errors import ConfigError
from zorba_ray.methods import METHODS, kind_of
from zorba_ray.runs.config import load_config
from zorba_ray.runs.early import check_early

if TYPE_CHECKING:
    from zorba_ray.runs.memory import ClassMemory

MEMORY = Program(
    "zorba-ray memory",
    "Solve a run's allocation and say, for each budget class, what its client that needs most takes of VRAM: predicted "
    "part by part, traced over the round's own code, and the bytes over the bus. Nothing is run or written.",
    (Flag("--methods", "compare several: all, or names with commas; each with its preset", "METHODS"),),
    (
        ("", "the embedded default"),
        ("--methods all", "all methods, and what each saves against the others"),
        ("opt125m_sst2 model.active=offload --json", "another config, for scripts"),
    ),
    kinds=lambda: (kind_of(""),),
    hidden=("rounds", "placement", "fleet", "faults", "privacy", "evaluation", "guard", "stop", "runtime"),
)


def main(argv: Sequence[str] | None = None, name: str = MEMORY.name) -> int:
    """The command; its exit status."""
    return enter(replace(MEMORY, name=name), argv, memory)


def memory(command: Command) -> Done:
    from zorba_ray.report.memory_tables import memory_table, savings_table
    from zorba_ray.runs.memory import compared

    rows: list[ClassMemory] = []
    refused: dict[str, str] = {}
    notes: dict[str, None] = {}  # each once
    chosen = methods_of(command.flags.get("--methods", ""))
    for method in chosen:
        try:
            found, said = of_method(command, method)
            rows, notes = [*rows, *found], notes | dict.fromkeys(said)
        except ConfigError as error:
            if len(chosen) == 1:
                raise
            refused[method] = str(error)
    if not rows:
        raise ConfigError("; ".join(f"{method}: {why}" for method, why in refused.items()))
    rows = compared(rows)
    parts = ["\n".join(f"Note: {note}." for note in notes), memory_table(rows), savings_table(rows), lacking(rows)]
    print("\n\n".join(filter(None, [*parts, *(f"{method} does not go: {why}" for method, why in refused.items())])))
    data = [row.to_json() for row in rows]
    return Done({"rows": data, "refused": refused, "notes": list(notes)})


def lacking(rows: list[ClassMemory]) -> str:
    """Of plans that do not fit: the least change that lets them."""
    from zorba_ray.allocation.feasibility import exactly

    return "\n".join(
        f"{row.method} does not fit class {row.name!r}: raise its budget by {exactly(-row.slack)}, or tune fewer than "
        f"{row.blocks} blocks in it (allocation.plan=zorba takes what fits)"
        for row in rows
        if row.slack < 0
    )


def methods_of(text: str) -> list[str]:
    """Methods by name; an empty one is that of the config."""
    names = list(METHODS) if text == "all" else text.split(",")
    unknown = [name for name in names if name and name not in METHODS]
    if unknown:
        raise ConfigError(f"--methods: no method is called {unknown[0]!r}; there are {', '.join(METHODS)}")
    return names


def of_method(command: Command, method: str) -> tuple[list[ClassMemory], list[str]]:
    """Its rows, and what of the model is not the model's own."""
    from zorba_ray.allocation import make_plan, without_program
    from zorba_ray.runs.memory import memory_by_class
    from zorba_ray.runs.prepare import load_problem

    chosen = [f"method={method}"] if method else []
    config = load_config(command.config_path, [*command.overrides, *chosen], command.more)
    check_early(config)
    problem = load_problem(config, asked=True)
    instance = problem.instance
    if config.allocation.plan == "zorba":
        plan = make_plan(instance, config.allocation, config.seed)
    else:  # a simple rule's plan is shown also where it does not fit, with what it lacks
        plan = without_program(instance, config.allocation, config.seed)
    return memory_by_class(config, instance, plan, problem.model, problem.task.max_tokens), problem.notes
