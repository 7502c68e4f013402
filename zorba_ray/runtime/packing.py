"""Which actor stands where: clients packed onto GPUs by their budgets before any actor exists.

Ray's fractional GPUs are bookkeeping and hang without an error when they do not fit, so we pack ourselves and refuse
with the numbers. Clients that do not fit side by side take turns (waves): a slot is room for one client at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import format_bytes

RAY_GRAIN = 10_000  # Ray counts a GPU in ten-thousandths


@dataclass(frozen=True)
class Gpu:
    """One GPU of the cluster, or the `share` of it that the run has; `context` bytes of it go to every process's CUDA
    context."""

    node: str
    memory: int
    context: int = 0
    name: str = ""  # of its kind
    others: int = 0  # bytes that somebody else held before the run began
    identity: str = ""  # by which its actors know it
    share: float = 1.0

    @property
    def free(self) -> int:
        return self.memory - self.others


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
    """Where an actor stands: its process, its node, and the machine that this is."""

    pid: int
    node: str
    machine: str = ""  # by its name
    cpu: str = ""


def gpu_share(budget: int, memory: int) -> float:
    """budget / memory of the GPU, rounded up to what Ray can count."""
    return -(-budget * RAY_GRAIN // memory) / RAY_GRAIN


def pack_clients(budgets: Sequence[int], gpus: Sequence[Gpu]) -> list[Slot]:
    """Slots for all clients: largest budgets first, each onto the GPU where it leaves the least room (best fit).

    A client that finds no room takes turns with those of the slot that has the fewest; slots are there for the largest
    budgets first, so it has at least its own there, and its own is what caps it.
    """
    _refuse_impossible(budgets, gpus)
    room = [RAY_GRAIN * gpu.free // gpu.memory for gpu in gpus]
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
    largest, context = max(gpus, key=lambda gpu: gpu.free), max(gpu.context for gpu in gpus)
    held = f", {format_bytes(largest.others)} of which others hold" if largest.others else ""
    for client, budget in enumerate(budgets):
        if budget > largest.free:
            raise ConfigError(
                f"client {client} has a budget of {format_bytes(budget)}, more than the largest GPU here "
                f"({format_bytes(largest.memory)}{held}); lower clients.budgets"
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


def alike(rows: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each distinct row of [C, L] is found first, and which of them each row is, [C]."""
    bits = np.packbits(rows, axis=1)
    words = np.zeros((len(rows), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : bits.shape[1]] = bits
    first, which = np.zeros(min(1, len(rows)), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    for word in words.view(np.uint64).T:
        values, each = np.unique(word, return_inverse=True)
        _, first, which = np.unique(which * len(values) + each.ravel(), return_index=True, return_inverse=True)
    return first, which.ravel()


def deal_work(costs: Sequence[int] | NDArray[np.int64], hosts: int) -> list[NDArray[np.int64]]:
    """Positions 0 … len(costs) − 1 dealt to hosts so that loads are even: the costliest first, to the least loaded.
    Of equal costs whole turns are dealt at once."""
    left = np.asarray(costs, dtype=np.int64)
    order = np.argsort(-left, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(left[order])) + 1, len(order))  # of each run of equal costs
    loads = np.zeros(hosts, dtype=np.int64)
    host_of = np.empty(len(order), dtype=np.int64)
    begin = 0
    for end in ends.tolist():
        cost = int(left[order[begin]]) if begin < end else 0
        while begin < end:
            by_load = np.argsort(loads, kind="stable")
            turns = (end - begin) // hosts if np.ptp(loads) < cost else 0
            count = turns * hosts or 1
            host_of[order[begin : begin + count]] = np.tile(by_load, turns) if turns else by_load[0]
            loads[by_load if turns else by_load[:1]] += max(turns, 1) * cost
            begin += count
    return [np.flatnonzero(host_of == host) for host in range(hosts)]
