"""Client actors handed from run to run on one quota: importing their libraries is most of what one costs.

An actor builds its model anew for every run, so what a run computes does not depend on who computed before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray

from zorba_ray.runtime.launch import Placement
from zorba_ray.runtime.packing import Slot
from zorba_ray.runtime.pool import Pool

ALIVE = 30.0  # seconds in which an actor that does nothing answers


@dataclass
class Warm:
    """Actors on CPUs by their slots' names, all placed alike; on GPUs an actor's cap is its clients', so each run has
    its own."""

    idle: dict[str, Any] = field(default_factory=dict)
    alike: tuple[Any, ...] = ()

    def starter(self, placement: Placement, threads: int) -> Callable[[Slot], Any]:
        """`placement.start`, but a slot whose actor of the last run is alive has it again."""
        alike = placement.kind, placement.device, threads, len(placement.slots)
        if alike != self.alike or placement.device != "cpu":
            self.end()
        self.alike = alike

        def start(slot: Slot) -> Any:
            kept = self.idle.pop(slot.name, None)
            return kept if kept is not None and answers(kept) else placement.start(slot)

        return start

    def keep(self, pool: Pool) -> None:
        """A run is over: its actors on CPUs stay for the next, the others go."""
        for member in pool.members:
            if member.well and member.slot.gpu is None:
                self.idle[member.slot.name] = member.actor
            else:
                ray.kill(member.actor)

    def end(self) -> None:
        """Whoever is idle would hold the room of others."""
        for actor in self.idle.values():
            ray.kill(actor)
        self.idle.clear()


def answers(actor: Any) -> bool:
    with suppress(ray.exceptions.RayError):
        ray.get(actor.stand.remote(), timeout=ALIVE)
        return True
    ray.kill(actor)
    return False
