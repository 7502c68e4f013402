"""`run --dry-run`: everything before the first round, and what the rounds would take."""

from __future__ import annotations

from dataclasses import asdict

from zorba_ray.commands.entry import Done
from zorba_ray.commands.front import BackendName
from zorba_ray.config.schema import Config
from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, flops, text_table
from zorba_ray.runs.config import ignored


def dry_run(config: Config, backend: BackendName) -> Done:
    """Model and data are read, the allocation is solved and clients are placed; no round is done, nothing written."""
    from zorba_ray.runs.estimate import estimate
    from zorba_ray.runs.prepare import prepare

    prepared = prepare(config)
    reason, actors = placed(config, [int(size) for size in prepared.outline.budgets.bytes], backend)
    found = estimate(config, prepared, actors)
    notes = [*ignored(config), f"placement: {reason}", *prepared.outline.notes]
    print("\n".join(notes))
    rows = [[use.name, str(use.clients), format_bytes(use.budget), format_bytes(use.vram)] for use in found.budgets]
    print(text_table(["Budget class", "Clients", "Budget", "VRAM"], rows))
    print(f"{config.rounds} rounds take about {duration(found.seconds)} at this machine's pace on {actors} actors, "
          f"{flops(found.flops)}")
    print(f"Clients send {format_bytes(found.bytes_up)} and receive {format_bytes(found.bytes_down)}")
    print(f"Host memory of all actors {format_bytes(found.host_memory)}; disk {format_bytes(found.disk)}")
    return Done({"placement": reason, "actors": actors, "notes": notes, **asdict(found)})


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
