"""What a machine or cluster is promised to do, tried out on it within a minute, line by line (`zorba-ray check`)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import ray
from ray.util.placement_group import remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration
from zorba_ray.noise.identity import Kind
from zorba_ray.records.stream import table
from zorba_ray.runs.config import checked, load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runtime.connect import start_driver
from zorba_ray.runtime.driver import Driver
from zorba_ray.runtime.launch import answer, cluster_nodes, look_at, place, reserve
from zorba_ray.runtime.news import News
from zorba_ray.runtime.waiting import Watch
from zorba_ray.world.budgets import client_budgets

PATIENCE = 60.0  # seconds that a node or a GPU may take to answer
PACKAGES = ("ray", "torch", "transformers", "numpy", "numba", "pyarrow")
KINDS: tuple[Kind, ...] = ("gaussian", "rademacher")
NUMBERS = 20_000  # of a direction, that are compared
SMALL = ("clients.count=4", "rounds=1", "evaluation.every=1000", "evaluation.examples=16", "clients.batch=4",
         "allocation.plan=cyclic", "runtime.patience=60")  # fmt: skip
TOLERANCE = 0.10  # between what is predicted and what is measured
MIB = 2**20
ROOM = 512 * MIB  # that a client of the embedded model has beside the context


@dataclass(frozen=True)
class Line:
    """`holds` is None where it was left out; `told` says what was found, or why."""

    what: str
    holds: bool | None
    told: str


def check(config: Config) -> Iterator[Line]:
    """Everything, on the Ray that is up. A line that cannot be had, because something else is broken, does not hold."""
    gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    yield tried("versions", versions)
    yield tried("noise", lambda: noise(gpus))
    yield tried("packing", lambda: packing(config))
    for what, work in (("memory cap", cap), ("bus", bus)):
        yield tried(what, work) if gpus else Line(what, None, "there is no GPU")
    with tempfile.TemporaryDirectory(prefix="zorba-check-") as place:
        yield tried("placements", lambda: placements(Path(place), gpus))
        yield (
            tried("memory", lambda: memory(Path(place) / "per_client"))
            if gpus
            else Line("memory", None, "there is no GPU; what is predicted is traced by `zorba-ray memory`")
        )


def tried(what: str, work: Callable[[], tuple[bool, str]]) -> Line:
    try:
        return Line(what, *work())
    except (ConfigError, ray.exceptions.RayError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Line(what, False, lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0])


def on_every_node(work: Callable[..., Any], *arguments: Any, gpu: bool = False) -> dict[str, Any]:
    """What a function says on each node, by the node's address; with `gpu` on every GPU, by the node's and a number."""
    asked: dict[str, Any] = {}
    for node in cluster_nodes():
        count = int(node["Resources"].get("GPU", 0)) if gpu else 1
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        for i in range(count if node["Alive"] else 0):
            task = ray.remote(work).options(
                num_cpus=0, num_gpus=int(gpu), scheduling_strategy=there, max_retries=0
            )
            name = str(node["NodeManagerAddress"])
            while name in asked:
                name += "'"
            asked[f"{name} GPU {i}" if gpu else name] = task.remote(*arguments)
    ray.wait(list(asked.values()), num_returns=max(1, len(asked)), timeout=PATIENCE)
    late = [name for name, reference in asked.items() if not ray.wait([reference], timeout=0)[0]]
    if late:
        raise ConfigError(f"no answer within {duration(PATIENCE)} from {', '.join(late)}: is it busy with other work?")
    return {name: ray.get(reference) for name, reference in asked.items()}


def here() -> dict[str, str]:
    """The versions of this process, and its Python's."""
    import platform
    from importlib.metadata import version

    import zorba_ray

    packages = {name: version(name) for name in PACKAGES}
    return {"zorba_ray": zorba_ray.__version__, "python": platform.python_version(), **packages}


def versions() -> tuple[bool, str]:
    """Of what decides bits, the same everywhere."""
    mine = here()
    wrong = [
        f"{node} has {name} {theirs.get(name, 'missing')}, and here it is {version}"
        for node, theirs in on_every_node(here).items()
        for name, version in mine.items()
        if theirs.get(name) != version
    ]
    if wrong:
        return False, "; ".join(wrong)
    count = sum(bool(node["Alive"]) for node in cluster_nodes())
    return True, f"{count} node{'s' * (count != 1)}: " + ", ".join(f"{name} {each}" for name, each in mine.items())


def drawn(device: str) -> dict[str, bytes]:
    """Perturbed numbers of both kinds of noise, by the kernels of a device."""
    import numpy as np
    import torch

    from zorba_ray.noise import Direction, combine

    base = np.linspace(-1, 1, NUMBERS, dtype=np.float32)
    found: dict[str, bytes] = {}
    for kind in KINDS:
        out = torch.empty(NUMBERS, device=device)
        combine(out, torch.from_numpy(base).to(device), [(Direction(2**63 + 5, 7, 1), 0.5)], 3, kind)
        found[kind] = out.cpu().numpy().tobytes()
    return found


def expected() -> dict[str, bytes]:
    """The same by the plain reference."""
    import numpy as np

    from zorba_ray.noise import Direction, combine_reference

    base, terms = np.linspace(-1, 1, NUMBERS, dtype=np.float32), [(Direction(2**63 + 5, 7, 1), 0.5)]
    return {kind: combine_reference(base, terms, 3, kind).tobytes() for kind in KINDS}


def noise(gpus: int) -> tuple[bool, str]:
    """Bit for bit that of the reference, on every node's CPU and on every GPU."""
    wanted, found = expected(), on_every_node(drawn, "cpu")
    if gpus:
        found |= on_every_node(drawn, "cuda", gpu=True)
    wrong = [f"{kind} on {name}" for name, each in found.items() for kind, bits in each.items() if bits != wanted[kind]]
    if wrong:
        return False, f"other bits than the reference's: {', '.join(wrong)}"
    return True, f"{len(found)} device{'s' * (len(found) != 1)} bit-equal to the reference"


def packing(config: Config) -> tuple[bool, str]:
    """Where the config's clients would stand here."""
    budgets = [int(budget) for budget in client_budgets(config.clients, config.seed).bytes]
    placement = place(config, budgets, Watch(News(), PATIENCE))
    if placement.reserved is not None:
        remove_placement_group(placement.reserved.group)
    return True, placement.reason


def capped() -> tuple[bool, str]:
    """In a worker with a GPU: what is below the cap is had, what exceeds it is out of memory."""
    import torch

    limit = 256 * MIB
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    torch.empty(limit // 2, dtype=torch.uint8, device="cuda")
    try:
        torch.empty(2 * limit, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError:
        return True, ""
    return False, f"{format_bytes(2 * limit)} were had under a cap of {format_bytes(limit)}"


def cap() -> tuple[bool, str]:
    found = on_every_node(capped, gpu=True)
    wrong = [f"{name}: {said}" for name, (held, said) in found.items() if not held]
    return not wrong, "; ".join(wrong) or f"enforced on {len(found)} GPUs; what exceeds it is out of memory"


def streamed() -> float:
    """In a worker with a GPU: bytes a second from pinned memory to the device, the best of some."""
    import time

    import torch

    source = torch.empty(256 * MIB, dtype=torch.uint8, pin_memory=True)
    target, best = torch.empty_like(source, device="cuda"), math.inf
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return source.numel() / best


def bus() -> tuple[bool, str]:
    found = on_every_node(streamed, gpu=True)
    return True, ", ".join(f"{name} {format_bytes(int(speed))}/s" for name, speed in found.items())


def placements(folder: Path, gpus: int) -> tuple[bool, str]:
    """A round of the embedded model by one actor for each client and by cohorts: the same ledger, byte for byte."""
    ledgers: dict[str, bytes] = {}
    keys = [*SMALL, *(on_gpus() if gpus else ())]
    for placement in ("per_client", "cohort"):
        one_round(load_config(None, [*keys, f"placement={placement}"]), folder / placement)
        ledgers[placement] = (folder / placement / LEDGER).read_bytes()
    if len(set(ledgers.values())) > 1:
        return False, f"the ledgers of {' and '.join(ledgers)} differ: actors on unequal hardware, or a bug"
    return True, "one actor per client and cohorts write the same ledger"


def on_gpus() -> list[str]:
    """Budgets with room for a CUDA context, and how much of them it takes here."""
    quota = reserve(1)
    try:
        (gpu,) = look_at(quota)
    finally:
        remove_placement_group(quota.group)
    budget = gpu.context + ROOM
    return [f"clients.budgets.classes=[{{name: all, budget: {budget} B}}]", f"clients.budgets.context={gpu.context} B"]


def one_round(config: Config, folder: Path) -> None:
    driver = start_driver(Driver, checked(replace(config, name=f"check-{folder.name}")), str(folder), False)
    try:
        answer(driver.prepare.remote())
        while answer(driver.advance.remote()):
            pass
        answer(driver.finish.remote(False, "", 0.0))
        answer(driver.leave.remote())
    finally:
        ray.kill(driver)


def memory(folder: Path) -> tuple[bool, str]:
    """Of the round by one actor for each client: what was allocated on its GPU, the CUDA context with it, against what
    was predicted."""
    clients = table(folder)
    return compared(clients.filter(pc.equal(clients["kind"], "client")).to_pylist())


def compared(rows: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    seen = [(row["client"], row["predicted_bytes"], row["allocated_bytes"]) for row in rows if row["allocated_bytes"]]
    if not seen:
        return False, "no client's memory was measured"
    client, predicted, allocated = max(seen, key=lambda each: abs(each[2] / each[1] - 1))
    off = allocated / predicted - 1
    return abs(off) <= TOLERANCE, (
        f"{len(seen)} clients; furthest off client {client}: {format_bytes(predicted)} predicted, "
        f"{format_bytes(allocated)} allocated ({off:+.0%})"
    )
