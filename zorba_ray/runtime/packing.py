"""Which actor stands where: clients packed onto GPUs by their budgets before any actor exists.

Ray's fractional GPUs are bookkeeping and hang without an error when they do not fit, so we pack ourselves and refuse
with the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import format_bytes

RAY_GRAIN = 10_000  # Ray counts a GPU in ten-thousandths


@dataclass(frozen=True)
class Gpu:
    """One GPU of the cluster."""

    node: str
    memory: int


@dataclass(frozen=True)
class Slot:
    """Room for one actor: the clients it is bound to (none: any), and its share of which GPU (none: CPU)."""

    name: str
    clients: tuple[int, ...] = ()
    gpu: int | None = None
    share: float = 0.0


def gpu_share(budget: int, memory: int) -> float:
    """budget / memory of the GPU, rounded up to what Ray can count."""
    return -(-budget * RAY_GRAIN // memory) / RAY_GRAIN


def pack_clients(budgets: Sequence[int], gpus: Sequence[Gpu]) -> list[Slot]:
    """One slot per client: largest budgets first, each onto the GPU where it leaves the least room (best fit)."""
    room = [RAY_GRAIN] * len(gpus)
    slots: list[Slot] = []
    for client in sorted(range(len(budgets)), key=lambda n: (-budgets[n], n)):
        grains = [round(gpu_share(budgets[client], gpu.memory) * RAY_GRAIN) for gpu in gpus]
        fitting = [g for g in range(len(gpus)) if grains[g] <= room[g]]
        if not fitting:
            largest = max(gpu.memory for gpu in gpus)
            if budgets[client] > largest:
                raise ConfigError(
                    f"client {client} has a budget of {format_bytes(budgets[client])}, more than the largest GPU here "
                    f"({format_bytes(largest)}); lower clients.budgets"
                )
            total = sum(gpu.memory for gpu in gpus)
            raise ConfigError(
                f"{len(budgets)} clients with {format_bytes(sum(budgets))} of budgets do not fit on {len(gpus)} GPUs "
                f"with {format_bytes(total)} at once (client {client}, {format_bytes(budgets[client])}, finds none); "
                f"use placement=cohort, fewer clients or more GPUs"
            )
        best = min(fitting, key=lambda g: (room[g] - grains[g], g))
        room[best] -= grains[best]
        slots.append(Slot(f"client-{client}", (client,), best, grains[best] / RAY_GRAIN))
    return sorted(slots, key=lambda slot: slot.clients)


def cohort_slots(actors: int, gpus: Sequence[Gpu]) -> list[Slot]:
    """Actors that carry any client: one per GPU, or `actors` on CPUs."""
    if gpus:
        return [Slot(f"cohort-{g}", (), g, 1.0) for g in range(len(gpus))]
    return [Slot(f"cohort-{i}") for i in range(actors)]


def deal_work(costs: Sequence[int], hosts: int) -> list[list[int]]:
    """Positions 0 … len(costs) − 1 dealt to hosts so that loads are even: the costliest first, to the least loaded."""
    loads = [0] * hosts
    hands: list[list[int]] = [[] for _ in range(hosts)]
    for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        host = min(range(hosts), key=lambda h: (loads[h], h))
        loads[host] += costs[item]
        hands[host].append(item)
    return [sorted(hand) for hand in hands]
