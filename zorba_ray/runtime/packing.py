"""Which actor stands where: clients packed onto GPUs by their budgets before any actor exists.

Ray's fractional GPUs are bookkeeping and hang without an error when they do not fit, so we pack ourselves and refuse
with the numbers. Clients that do not fit side by side take turns (waves): a slot is room for one client at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import format_bytes

RAY_GRAIN = 10_000  # Ray counts a GPU in ten-thousandths


@dataclass(frozen=True)
class Gpu:
    """One GPU of the cluster; `context` bytes of it go to every process's CUDA context."""

    node: str
    memory: int
    context: int = 0


@dataclass(frozen=True)
class Slot:
    """Room for one actor: the clients it is bound to, one after the other (none: any, all at once), its share of which
    GPU (none: CPU), and how many bytes PyTorch may take for each of its clients (none: any number)."""

    name: str
    clients: tuple[int, ...] = ()
    gpu: int | None = None
    share: float = 0.0
    caps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Standing:
    """Where an actor stands: its process and its node."""

    pid: int
    node: str


def gpu_share(budget: int, memory: int) -> float:
    """budget / memory of the GPU, rounded up to what Ray can count."""
    return -(-budget * RAY_GRAIN // memory) / RAY_GRAIN


def pack_clients(budgets: Sequence[int], gpus: Sequence[Gpu]) -> list[Slot]:
    """Slots for all clients: largest budgets first, each onto the GPU where it leaves the least room (best fit).

    A client that finds no room takes turns with those of the slot that has the fewest; slots are there for the largest
    budgets first, so it has at least its own there, and its own is what caps it.
    """
    _refuse_impossible(budgets, gpus)
    room = [RAY_GRAIN] * len(gpus)
    places: list[tuple[int, int]] = []  # the GPU and the grains of each slot
    carried: list[list[int]] = []
    for client in sorted(range(len(budgets)), key=lambda n: (-budgets[n], n)):
        grains = [round(gpu_share(budgets[client], gpu.memory) * RAY_GRAIN) for gpu in gpus]
        fitting = [g for g in range(len(gpus)) if grains[g] <= room[g]]
        if fitting:
            best = min(fitting, key=lambda g: (room[g] - grains[g], g))
            room[best] -= grains[best]
            places.append((best, grains[best]))
            carried.append([client])
        else:
            min(carried, key=len).append(client)
    slots = []
    for (g, grains_of_slot), clients in zip(places, carried, strict=True):
        caps = tuple(budgets[n] - gpus[g].context for n in clients)
        slots.append(Slot(f"client-{clients[0]}", tuple(clients), g, grains_of_slot / RAY_GRAIN, caps))
    return sorted(slots, key=lambda slot: slot.clients)


def _refuse_impossible(budgets: Sequence[int], gpus: Sequence[Gpu]) -> None:
    largest, context = max(gpu.memory for gpu in gpus), max(gpu.context for gpu in gpus)
    for client, budget in enumerate(budgets):
        if budget > largest:
            raise ConfigError(
                f"client {client} has a budget of {format_bytes(budget)}, more than the largest GPU here "
                f"({format_bytes(largest)}); lower clients.budgets"
            )
        if budget <= context:
            raise ConfigError(
                f"client {client} has a budget of {format_bytes(budget)}, and the CUDA context alone takes "
                f"{format_bytes(context)}; raise clients.budgets or use placement=cohort"
            )


def turns(clients: int, slots: int) -> list[tuple[int, ...]]:
    """Clients dealt to slots in turn."""
    return [tuple(range(first, clients, slots)) for first in range(min(slots, clients))]


def waves(slots: Sequence[Slot]) -> int:
    """How many clients take turns in the fullest slot."""
    return max(len(slot.clients) for slot in slots)


def cohort_slots(actors: int, gpus: Sequence[Gpu]) -> list[Slot]:
    """Actors that carry any client: one per GPU, or `actors` on CPUs."""
    if gpus:
        return [Slot(f"cohort-{g}", (), g, 1.0) for g in range(len(gpus))]
    return [Slot(f"cohort-{i}") for i in range(actors)]


def deal_work(costs: Sequence[int], hosts: int) -> list[list[int]]:
    """Positions 0 … len(costs) − 1 dealt to hosts so that loads are even: the costliest first, to the least loaded."""
    loads = [(0, host) for host in range(hosts)]
    hands: list[list[int]] = [[] for _ in range(hosts)]
    for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, host = loads[0]
        heapq.heapreplace(loads, (load + costs[item], host))
        hands[host].append(item)
    return [sorted(hand) for hand in hands]
