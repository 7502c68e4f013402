"""`run --dry-run`: everything before the first round, and what the rounds would take."""

from __future__ import annotations

from dataclasses import asdict

from zorba_ray.commands.entry import Done
from zorba_ray.commands.front import BackendName
from zorba_ray.config.files import only_asked
from zorba_ray.config.schema import Config
from zorba_ray.config.units import format_bytes, parse_clients
from zorba_ray.config.words import duration, flops
from zorba_ray.runs.config import ignored


def dry_run(config: Config, backend: BackendName) -> Done:
    """Model and data are read, the allocation is solved and clients are placed; no round is done, nothing written."""
    if only_asked(config.model):
        return without_weights(config, backend)
    from zorba_ray.report.memory_tables import memory_table
    from zorba_ray.runs.estimate import estimate
    from zorba_ray.runs.prepare import prepare

    prepared = prepare(config)
    reason, actors = placed(config, [int(size) for size in prepared.outline.budgets.bytes], backend)
    found = estimate(config, prepared, actors)
    notes = [*ignored(config), f"placement: {reason}", *prepared.outline.notes]
    print("\n".join(notes))
    print(memory_table(found.budgets))
    print(f"{config.rounds} rounds take about {duration(found.seconds)} at this machine's pace on {actors} actors, "
          f"{flops(found.flops)}")
    print(f"Clients send {format_bytes(found.bytes_up)} and receive {format_bytes(found.bytes_down)}")
    print(f"Host memory of all actors {format_bytes(found.host_memory)}; disk {format_bytes(found.disk)}")
    return Done({"placement": reason, "actors": actors, "notes": notes, **asdict(found)})


def without_weights(config: Config, backend: BackendName) -> Done:
    """What a model's shape tells. Time, bytes and disk are told by a client that is really tried."""
    from zorba_ray.allocation import make_plan
    from zorba_ray.methods import has_gradients
    from zorba_ray.report.memory_tables import memory_table
    from zorba_ray.runs.memory import memory_by_class
    from zorba_ray.runs.prepare import load_problem

    problem = load_problem(config, asked=True)
    plan = make_plan(problem.instance, config.allocation, config.seed)
    reason, actors = placed(config, [int(size) for size in problem.budgets.bytes], backend)
    notes = [*ignored(config), *problem.notes, f"placement: {reason}",
             "only the model's shape was asked: no client was tried for time, bytes and disk"]  # fmt: skip
    print("\n".join(notes))
    budgets = memory_by_class(config, problem.instance, plan, problem.model, problem.task.max_tokens)
    print(memory_table(budgets))
    total = None
    if not has_gradients(config):
        participants = parse_clients(config.participation.clients, config.clients.count)
        total = float(problem.instance.compute(plan.matrix).mean()) * participants * config.rounds
        print(f"{config.rounds} rounds take {flops(total)}")
    return Done({"placement": reason, "actors": actors, "notes": notes, "budgets": [asdict(use) for use in budgets],
                 "flops": total})  # fmt: skip


def placed(config: Config, budgets: list[int], backend: BackendName) -> tuple[str, int]:
    """Where the clients would be, and on how many actors."""
    if backend == "local":
        return "in this process", 1
    import ray

    from zorba_ray.runtime.connect import connect
    from zorba_ray.runtime.launch import place
    from zorba_ray.runtime.news import News
    from zorba_ray.runtime.waiting import Watch

    guest = ray.is_initialized()
    try:
        if not guest:
            connect(config.runtime.address)
        placement = place(config, budgets, Watch(News(), config.runtime.patience))
        return placement.reason, len(placement.slots)
    finally:
        if not guest:
            ray.shutdown()
