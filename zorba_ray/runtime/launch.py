"""Ray comes up, and the client actors are placed on what it offers."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config, RuntimeConfig
from zorba_ray.config.units import format_bytes, parse_bytes
from zorba_ray.config.words import duration
from zorba_ray.runtime.client import ClientActor
from zorba_ray.runtime.packing import Gpu, Slot, cohort_slots, pack_clients, turns, waves
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


def answer(reference: Any) -> Any:
    """What an actor answers; a mistake of the user comes back as itself, not wrapped in the actor's traceback."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ConfigError):
            raise error.cause from None
        raise


def place(config: Config, budgets: Sequence[int], watch: Watch) -> Placement:
    """Choose the slots. On GPUs an actor is pinned to budget / memory of its GPU; on CPUs budgets are logical."""
    device, wanted = config.runtime.device, config.runtime.gpus
    offered = await_gpus(config.runtime, watch)
    if device == "cuda" and not offered:
        raise ConfigError("runtime.device=cuda, but this Ray cluster has no GPU; use runtime.device=auto or cpu")
    gpus = discover_gpus(wanted) if device != "cpu" and offered else []
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return place_on_gpus(config, budgets, gpus) if gpus else place_on_cpus(config, resources)


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


def place_on_cpus(config: Config, resources: dict[str, float]) -> Placement:
    cpus = max(1, int(resources.get("CPU", 1)))
    cpus = min(cpus, config.runtime.cpus or cpus)
    threads = config.runtime.threads
    if config.placement == "per_client":
        count, memory = config.clients.count, int(resources.get("memory", 0))
        room = config.runtime.actors or max(1, memory // ACTOR_MEMORY)
        slots = [Slot(f"client-{hand[0]}", hand) for hand in turns(count, room)]
        reason = f"one actor per client, as asked; no GPU, so budgets are logical{in_waves(slots)}"
        return Placement("per_client", slots, starter(0.0, threads, "cpu", [], []), "cpu", reason)
    memory = max(int(node["Resources"].get("memory", 0)) for node in cluster_nodes())
    nodes = sum(bool(node["Alive"]) for node in cluster_nodes())
    actors = config.runtime.actors or max(1, min(cpus // threads, nodes * memory // ACTOR_MEMORY))
    share = int(min(1.0, cpus / actors) * 10_000) / 10_000
    because = "as asked" if config.runtime.device == "cpu" else "because the cluster has no GPU"
    reason = f"cohorts on {actors} CPU actors, {because}; budgets are logical"
    return Placement("cohort", cohort_slots(actors, []), starter(share, threads, "cpu", [], []), "cpu", reason)


def place_on_gpus(config: Config, budgets: Sequence[int], gpus: Sequence[Gpu]) -> Placement:
    kind, slots = "cohort", cohort_slots(0, gpus)
    reason = f"one cohort per GPU ({len(gpus)})"
    if config.placement != "cohort":
        packed, alone = pack_clients(budgets, gpus), config.clients.fused == 1
        if config.placement == "per_client" or (waves(packed) == 1 and alone):
            kind, slots = "per_client", packed
            reason = f"one actor per client on {len(gpus)} GPUs{in_waves(packed)}{context_advice(config, gpus)}"
        else:
            reason += ", because the clients' budgets do not fit side by side" if alone else ", for fused clients"
    strategies = reserve(gpus)
    contexts = [gpu.context for gpu in gpus]
    start = starter(0.0, config.runtime.threads, "cuda", strategies, contexts)
    return Placement(kind, slots, start, "cuda", reason, gpus)


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


def discover_gpus(most: int = 0) -> list[Gpu]:
    """The GPUs of the cluster, or the first `most`, with their memory and names: all nodes are asked at once."""

    def look() -> list[tuple[int, int, str]]:
        """(memory, taken by this process's CUDA context, name) of each GPU, which nobody else uses now."""
        import torch

        found = []
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            found.append((total, total - free, torch.cuda.get_device_name(i)))
        return found

    asked: list[tuple[dict[str, Any], int, Any]] = []
    for node in cluster_nodes():
        count = int(node["Resources"].get("GPU", 0)) if node["Alive"] else 0
        count = min(count, most - sum(other for _, other, _ in asked)) if most else count
        if count:
            where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(look).options(num_cpus=0, num_gpus=count, scheduling_strategy=where)
            asked.append((node, count, task.remote()))
    gpus: list[Gpu] = []
    for node, count, reference in asked:
        found = in_time(reference, f"the {count} GPUs of node {node['NodeManagerAddress']}")
        if len(found) != count:
            raise ConfigError(
                f"node {node['NodeManagerAddress']} offers {count} GPUs to Ray, but PyTorch sees {len(found)} there; "
                f"install a CUDA build of torch on it, or use runtime.device=cpu"
            )
        gpus += [Gpu(node["NodeID"], *each) for each in found]
    return gpus


def reserve(gpus: Sequence[Gpu]) -> list[Any]:
    """One placement-group bundle per GPU, so that an actor's fraction is on the GPU that it was packed onto."""
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in cluster_nodes()}
    bundles = [{"GPU": 1.0, f"node:{addresses[gpu.node]}": 0.0001} for gpu in gpus]
    group = placement_group(bundles, strategy="PACK")
    in_time(group.ready(), f"all {len(gpus)} GPUs of the cluster")
    return [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i) for i in range(len(gpus))]


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
    cpu_share: float, threads: int, device: str, strategies: Sequence[Any], contexts: Sequence[int]
) -> Callable[[Slot], Any]:
    """How to start the actor of a slot. An actor on a GPU reserves no CPU: Ray would give it a whole one. The dashboard
    shows it under its slot's name, its successors as client-3.2, client-3.3 …"""
    remote = ray.remote(ClientActor)
    namespace = f"zorba-{uuid.uuid4().hex[:8]}"  # runs on one cluster do not collide
    starts: Counter[str] = Counter()
    carried: Counter[str] = Counter()

    def start(slot: Slot) -> Any:
        starts[slot.name] += 1
        name = slot.name if starts[slot.name] == 1 else f"{slot.name}.{starts[slot.name]}"
        options: dict[str, Any] = {"num_cpus": cpu_share, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        options |= {"name": name, "namespace": namespace}
        context = 0
        if slot.gpu is not None:
            options |= {"num_gpus": slot.share, "scheduling_strategy": strategies[slot.gpu]}
            context = contexts[slot.gpu]
        elif not cpu_share:
            node = emptiest_node(carried)
            carried[node] += 1
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
        caps = dict(zip(slot.clients, slot.caps, strict=False)) if slot.caps else {}
        return remote.options(**options).remote(threads, device, caps, context)

    return start
