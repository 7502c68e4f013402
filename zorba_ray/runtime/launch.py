"""Ray comes up, and the client actors are placed on what it offers."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config, RuntimeConfig
from zorba_ray.config.units import format_bytes, parse_bytes
from zorba_ray.config.words import duration
from zorba_ray.runtime.client import ClientActor
from zorba_ray.runtime.packing import Gpu, Slot, cohort_slots, pack_clients, turns, waves
from zorba_ray.runtime.quota import Quota
from zorba_ray.runtime.waiting import SPEAK, Watch

ACTOR_MEMORY = 350 * 2**20  # own memory of an actor with torch, transformers and a small model on a CPU (measured)
BUSY = 60.0  # seconds after which GPUs that should be free are taken to be somebody else's


@dataclass(frozen=True)
class Placement:
    """The slots of a run, how to start an actor on one, and why it was chosen."""

    kind: str
    slots: list[Slot]
    start: Callable[[Slot], Any]
    device: str
    reason: str
    gpus: Sequence[Gpu] = ()
    reserved: Quota | None = None  # what was taken of the cluster for it


def answer(reference: Any) -> Any:
    """What an actor answers; a mistake of the user comes back as itself, not wrapped in the actor's traceback."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ConfigError):
            raise error.cause from None
        raise


def place(config: Config, budgets: Sequence[int], watch: Watch) -> Placement:
    """Choose the slots, within the run's quota where it has one. On GPUs an actor is pinned to budget / memory of its
    GPU; on CPUs budgets are logical."""
    device, quota = config.runtime.device, Quota.mine()
    offered = quota.each("GPU") if quota else await_gpus(config.runtime, watch)
    if device == "cuda" and not offered:
        whose, add = ("quota of this run", "give it `gpus`") if quota else ("Ray cluster", "start nodes that have some")
        raise ConfigError(f"runtime.device=cuda, but this {whose} has no GPU; {add}, or use runtime.device=auto or cpu")
    if device != "cpu" and offered:
        room = quota or reserve(config.runtime.gpus or int(offered))
        placement = place_on_gpus(config, budgets, look_at(room), room.strategies())
        return placement if quota else replace(placement, reserved=room)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return place_on_cpus(config, resources, quota)


def await_gpus(runtime: RuntimeConfig, watch: Watch) -> int:
    """How many GPUs the cluster offers. Nodes of a cluster come one after the other: as many as the run is to use are
    waited for, and where the cluster is about to start nodes and has no GPU yet, the first."""
    started, speak = time.monotonic(), SPEAK
    while True:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        count, waited = int(resources.get("GPU", 0)), time.monotonic() - started
        wanted = runtime.gpus or int(runtime.device != "cpu" and not count and nodes_to_come())
        if count >= wanted or (not runtime.gpus and waited > runtime.patience):
            return count
        what = f"{wanted} GPUs (runtime.gpus)" if runtime.gpus else "the nodes that the cluster is about to start"
        if waited > runtime.patience:
            raise ConfigError(
                f"{what} did not come within {duration(waited)}: the cluster has {count}. Start more nodes, or ask for "
                f"fewer"
            )
        if waited > speak:
            watch.news.say(
                f"waiting for {what} since {duration(waited)}, at most {duration(runtime.patience)}; the cluster has "
                f"{count}"
            )
            speak *= 2
        time.sleep(1)


def nodes_to_come() -> bool:
    """Whether an autoscaler is about to start nodes; False where Ray does not tell."""
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status

        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception:  # no autoscaler, or a Ray that tells otherwise: then nothing is known to come
        return False
    return bool(status.pending_launches or status.pending_nodes)


def place_on_cpus(config: Config, offered: dict[str, float], quota: Quota | None = None) -> Placement:
    everything = max(1, int(offered.get("CPU", 1)))
    cpus = quota.cpus() if quota else min(everything, config.runtime.cpus or everything)
    threads, actors = config.runtime.threads, config.runtime.actors
    if config.placement == "per_client":
        memory = int(offered.get("memory", 0) * (min(1.0, cpus / everything) if quota else 1.0))
        slots = [Slot(f"client-{hand[0]}", hand)
                 for hand in turns(config.clients.count, actors or max(1, memory // ACTOR_MEMORY))]  # fmt: skip
        reason = f"one actor per client, as asked; no GPU, so budgets are logical{in_waves(slots)}"
        start = starter(0.0, threads, "cpu", in_turn(slots, quota))
        return Placement("per_client", slots, start, "cpu", reason)
    largest = max(int(node["Resources"].get("memory", 0)) for node in cluster_nodes())
    nodes = sum(bool(node["Alive"]) for node in cluster_nodes())
    actors = actors or max(1, min(cpus // threads, nodes * largest // ACTOR_MEMORY))
    share = int(min(1.0, quota.each("CPU") if quota else cpus, cpus / actors) * 10_000) / 10_000
    whose = "quota" if quota else "cluster"
    because = "as asked" if config.runtime.device == "cpu" else f"because the {whose} has no GPU"
    reason = f"cohorts on {actors} CPU actors, {because}; budgets are logical"
    slots = cohort_slots(actors, [])
    return Placement("cohort", slots, starter(share, threads, "cpu", in_turn(slots, quota)), "cpu", reason)


def in_turn(slots: Sequence[Slot], quota: Quota | None) -> dict[str, Any]:
    """Slots dealt to the bundles of a quota, by their names."""
    strategies = quota.strategies() if quota else []
    return {slot.name: strategies[i % len(strategies)] for i, slot in enumerate(slots)} if strategies else {}


def place_on_gpus(
    config: Config, budgets: Sequence[int], gpus: Sequence[Gpu], strategies: Sequence[Any]
) -> Placement:
    """`strategies`: how to stand on each GPU."""
    kind, slots = "cohort", cohort_slots(0, gpus)
    reason = f"one cohort per GPU ({len(gpus)})"
    if config.placement != "cohort":
        packed, alone = pack_clients(budgets, gpus), config.clients.fused == 1
        if config.placement == "per_client" or (waves(packed) == 1 and alone):
            kind, slots = "per_client", packed
            reason = f"one actor per client on {len(gpus)} GPUs{in_waves(packed)}{context_advice(config, gpus)}"
        else:
            reason += ", because the clients' budgets do not fit side by side" if alone else ", for fused clients"
    where = {slot.name: strategies[slot.gpu] for slot in slots if slot.gpu is not None}
    return Placement(kind, slots, starter(0.0, config.runtime.threads, "cuda", where, gpus), "cuda", reason, gpus)


def context_advice(config: Config, gpus: Sequence[Gpu]) -> str:
    """Where the plan does not know how much of every budget goes to the CUDA context."""
    largest = max(gpu.context for gpu in gpus)
    if largest <= parse_bytes(config.clients.budgets.context):
        return ""
    size = format_bytes(largest)
    return f"; the CUDA context takes {size} of every budget: for plans that know, clients.budgets.context='{size}'"


def in_waves(slots: Sequence[Slot]) -> str:
    """Where clients are more than slots: how often a slot is used in a round."""
    clients = sum(len(slot.clients) for slot in slots)
    return f"; {clients} clients take turns in {len(slots)} actors, {waves(slots)} waves" if waves(slots) > 1 else ""


def reserve(count: int) -> Quota:
    """So many whole GPUs of the cluster, a bundle each: an actor's fraction is then on the GPU that it was packed
    onto."""
    group = placement_group([{"GPU": 1.0}] * count, strategy="PACK")
    in_time(group.ready(), f"all {count} GPUs of the cluster" if count > 1 else "the GPU of the cluster")
    return Quota(group, driver=False)


def look_at(quota: Quota) -> list[Gpu]:
    """The GPU of every bundle, with its memory and name; of one that a run shares, its share. All are asked at once."""

    def look() -> tuple[str, list[tuple[int, int, int, str, str]]]:
        """The node; and of its one GPU memory, how much of it others hold, what this process's CUDA context takes,
        name and identity."""
        import ray
        import torch

        from zorba_ray.runtime.devices import held_by_others, identity

        held = held_by_others()  # before this process takes any of it
        found = []
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            own = identity(i)
            others = held.get(own, 0)
            found.append((total, others, max(0, total - free - others), torch.cuda.get_device_name(i), own))
        return str(ray.get_runtime_context().get_node_id()), found

    share = min(1.0, quota.each("GPU"))
    task = ray.remote(look)
    asked = [
        task.options(num_cpus=0, num_gpus=share, scheduling_strategy=there).remote() for there in quota.strategies()
    ]
    gpus: list[Gpu] = []
    for reference in asked:
        node, found = in_time(reference, "a GPU that is reserved for this run")
        if len(found) != 1:
            raise ConfigError(
                f"node {address_of(node)} gives a GPU to Ray, but PyTorch sees {len(found)} there; install a CUDA "
                f"build of torch on it, or use runtime.device=cpu"
            )
        (total, others, context, name, own), = found
        gpus.append(Gpu(node, int(share * total), context, name, int(share * others), own, share))
    return gpus


def address_of(node: str) -> str:
    return next((str(each["NodeManagerAddress"]) for each in cluster_nodes() if each["NodeID"] == node), node)


def in_time(reference: Any, what: str) -> Any:
    """What should be there at once, unless somebody else has it: Ray would wait for ever."""
    try:
        return ray.get(reference, timeout=BUSY)
    except ray.exceptions.GetTimeoutError:
        raise ConfigError(
            f"{what} did not come free within {BUSY:.0f} s; other jobs hold them. Wait for them, or use "
            f"runtime.device=cpu"
        ) from None


def cluster_nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def alive_nodes() -> set[str]:
    return {str(node["NodeID"]) for node in cluster_nodes() if node["Alive"]}


def emptiest_node(carried: Counter[str]) -> str:
    """Where the next actor that reserves nothing goes, by the CPUs of the nodes: Ray would choose at random, the head
    of a cluster that offers no CPU included."""
    nodes = [node for node in cluster_nodes() if node["Alive"]]
    cpus = {str(node["NodeID"]): float(node["Resources"].get("CPU", 0)) for node in nodes}
    offering = {node: count for node, count in cpus.items() if count} or dict.fromkeys(cpus, 1.0)
    return min(offering, key=lambda node: ((carried[node] + 1) / offering[node], node))


def starter(
    cpu_share: float, threads: int, device: str, strategies: Mapping[str, Any], gpus: Sequence[Gpu] = ()
) -> Callable[[Slot], Any]:
    """How to start the actor of a slot, where `strategies` says (none: Ray chooses). An actor on a GPU reserves no CPU:
    Ray would give it a whole one. The dashboard shows it under its slot's name, its successors as client-3.2,
    client-3.3 …"""
    remote = ray.remote(ClientActor)
    namespace = f"zorba-{uuid.uuid4().hex[:8]}"  # runs on one cluster do not collide
    starts: Counter[str] = Counter()
    carried: Counter[str] = Counter()

    def start(slot: Slot) -> Any:
        starts[slot.name] += 1
        name = slot.name if starts[slot.name] == 1 else f"{slot.name}.{starts[slot.name]}"
        options: dict[str, Any] = {"num_cpus": cpu_share, "max_restarts": 0, "name": name, "namespace": namespace}
        options["scheduling_strategy"] = strategies.get(slot.name, "SPREAD")
        gpu = gpus[slot.gpu] if slot.gpu is not None else None
        if gpu is not None:
            options["num_gpus"] = slot.share * gpu.share
        elif not cpu_share and slot.name not in strategies:
            node = emptiest_node(carried)
            carried[node] += 1
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
        caps = dict(zip(slot.clients, slot.caps, strict=False)) if slot.caps else {}
        context, own = (gpu.context, gpu.identity) if gpu else (0, "")
        return remote.options(**options).remote(threads, device, caps, context, own)

    return start
