"""Clients on GPUs, on a machine without any: Ray is told of two, PyTorch's answers about them are made up, and the
products are done on the CPU. Who stands where, under which cap, and what becomes of it, is the real code."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import one_ray
import pytest
import ray
import torch
from runtime.test_equality import config_of, run_in_process

from zorba_ray.config.errors import ConfigError
from zorba_ray.messages import Report
from zorba_ray.records.stream import table
from zorba_ray.runs.memory import read_memory
from zorba_ray.runs.summary import read_summary
from zorba_ray.runtime import devices, launch, pool
from zorba_ray.runtime.client import ClientActor
from zorba_ray.runtime.news import News
from zorba_ray.runtime.packing import Gpu, Slot, Standing, pack_clients
from zorba_ray.runtime.pool import Member, Pool
from zorba_ray.runtime.quota import Quota
from zorba_ray.runtime.waiting import Watch

MIB = 2**20
MEMORY, CONTEXT, RESERVED, ALLOCATED = 40 * MIB, MIB // 2, 3 * MIB, 2 * MIB
NAME = "Pretended 40"
WATCH = Watch(News("testing"), 60.0)
ROOM = "clients.budgets.classes=[{name: all, budget: 16 MiB}]"  # two clients on a GPU


def own_gpu() -> str:
    """In a worker that has one: which one it is."""
    import ray

    return f"gpu {ray.get_gpu_ids()[0]}"


def pretend() -> None:
    """In a worker: PyTorch sees as many GPUs as Ray gave it, and remembers the caps that it is given."""
    import ray
    import torch

    cuda: Any = torch.cuda
    cuda.caps = []
    cuda.device_count = lambda: len(ray.get_gpu_ids())
    cuda.mem_get_info = lambda device=None: (MEMORY - CONTEXT, MEMORY)
    cuda.get_device_properties = lambda device: SimpleNamespace(total_memory=MEMORY, uuid=own_gpu())
    cuda.set_per_process_memory_fraction = lambda share: cuda.caps.append(share * MEMORY)
    cuda.max_memory_reserved = lambda: RESERVED
    cuda.max_memory_allocated = lambda: ALLOCATED
    cuda.get_device_name = lambda device=None: NAME
    cuda.empty_cache = cuda.reset_peak_memory_stats = lambda: None


class OnCpu(ClientActor):
    """Placed on a GPU, at work on a CPU."""

    def __init__(self, threads: int, device: str, caps: dict[int, int], context: int, planned: str):
        assert device == "cuda" and planned == own_gpu()
        super().__init__(threads, "cpu", caps, context, planned)

    def seen(self) -> tuple[list[int], list[float]]:
        """The GPU that it may use, and the caps under which it worked."""
        import torch

        return ray.get_gpu_ids(), torch.cuda.caps  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[None]:
    one_ray.stop()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    ray.init(
        address="local", num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR, runtime_env={"worker_process_setup_hook": pretend},
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture
def freed(two_gpus: None) -> Iterator[None]:
    """Both GPUs are free again afterwards."""
    yield
    for name in ray.util.placement_group_table():
        ray._private.worker.global_worker.core_worker.remove_placement_group(
            ray.PlacementGroupID(bytes.fromhex(name))
        )


@pytest.mark.ray
@pytest.mark.parametrize(
    ("placement", "actors"), [pytest.param("per_client", 4, marks=pytest.mark.slow), ("cohort", 2)]
)
def test_a_run_on_gpus_writes_the_ledger_of_one_process(
    freed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, placement: str, actors: int
) -> None:
    monkeypatch.setattr(launch, "ClientActor", OnCpu)
    config = config_of(ROOM, f"placement={placement}", "rounds=2")
    from zorba_ray.runtime.driver import Driver

    driver = Driver(config, str(tmp_path / "ray"), resume=False)
    driver.prepare()
    members = driver.backend.pool.members
    assert (driver.site.placement.kind, driver.site.placement.device, len(members)) == (placement, "cuda", actors)
    assert ray.available_resources().get("GPU", 0) == 0, "both are reserved"
    assert one_ray.finished(driver) == run_in_process(tmp_path / "here", ROOM, "rounds=2")
    at_gpu: dict[int, set[int]] = {0: set(), 1: set()}
    for member in members:
        (gpu,), caps = ray.get(member.actor.seen.remote())
        assert member.slot.gpu is not None
        at_gpu[member.slot.gpu].add(gpu)
        assert caps[::2] == pytest.approx([16 * MIB - CONTEXT] * 2 if placement == "per_client" else [])
        assert set(caps[1::2]) <= {MEMORY}  # lifted when the client is done
    assert sorted(gpu for each in at_gpu.values() for gpu in each) == [0, 1], "a bundle is one GPU, and each its own"
    rows = [row for row in table(tmp_path / "ray").to_pylist() if row["kind"] == "client"]
    measured = CONTEXT + RESERVED if placement == "per_client" else None
    assert {row["measured_bytes"] or None for row in rows} == {measured}
    kept, table_kept = read_summary(tmp_path / "ray").environment, read_memory(tmp_path / "ray")
    assert kept["gpus"] == [NAME] and list(kept["actors"].values()) == [actors]
    assert list(kept["machines"]) == list(kept["actors"]) == [platform.node()]
    assert table_kept == [], "nobody wanted a report"
    assert driver.site.memory(driver.simulation.session.prepared, driver.simulation.session.prepared.allocator.plans[0])
    for member in members:
        ray.kill(member.actor)


@pytest.mark.ray
def test_gpus_are_found_with_their_memory_and_what_a_context_takes(freed: None) -> None:
    node = ray.nodes()[0]["NodeID"]
    quota = launch.reserve(2)
    gpus = launch.look_at(quota)
    assert sorted(gpus, key=lambda gpu: gpu.identity) == [
        Gpu(node, MEMORY, CONTEXT, NAME, 0, f"gpu {i}") for i in (0, 1)
    ]
    config = config_of(ROOM, "placement=per_client")
    told = launch.place_on_gpus(config, [16 * MIB] * 5, gpus, quota.strategies()).reason
    assert "5 clients take turns in 4 actors, 2 waves" in told and "the CUDA context takes 512 KiB" in told


@pytest.mark.ray
def test_where_clients_do_not_fit_side_by_side_cohorts_are_chosen(freed: None) -> None:
    placement = launch.place(config_of(ROOM), [16 * MIB] * 5, WATCH)
    assert placement.kind == "cohort" and "do not fit side by side" in placement.reason
    assert [(slot.gpu, slot.share) for slot in placement.slots] == [(0, 1.0), (1, 1.0)]


@pytest.mark.ray
def test_gpus_that_others_hold_or_pytorch_does_not_see_are_one_line(
    freed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    @ray.remote(num_cpus=0, num_gpus=1)
    class Holder:
        def here(self) -> None: ...

    holder = Holder.remote()
    ray.get(holder.here.remote())
    monkeypatch.setattr(launch, "BUSY", 1.0)
    with pytest.raises(ConfigError, match="all 2 GPUs of the cluster did not come free"):
        launch.reserve(2)
    ray.kill(holder)
    monkeypatch.undo()
    quota = launch.reserve(2)
    node = ray.nodes()[0]
    monkeypatch.setattr(ray, "get", lambda *_, **__: (node["NodeID"], []))
    with pytest.raises(ConfigError, match=f"node {node['NodeManagerAddress']} gives a GPU to Ray, but PyTorch sees 0"):
        launch.look_at(quota)


@pytest.mark.ray
def test_in_a_quota_clients_are_packed_onto_its_share_of_a_gpu(freed: None) -> None:
    """Half a GPU has room for one client of 16 MiB, and its actor takes its share of the half."""
    group = ray.util.placement_group([{"CPU": 0.1}, {"GPU": 0.5}])
    ray.get(group.ready())
    quota = Quota(group)
    (gpu,) = launch.look_at(quota)
    assert (gpu.memory, gpu.share, quota.cpus()) == (MEMORY // 2, 0.5, 1)
    placement = launch.place_on_gpus(config_of(ROOM), [16 * MIB], [gpu], quota.strategies())
    assert (placement.kind, [slot.share for slot in placement.slots]) == ("per_client", [0.8])


def test_what_others_hold_of_a_gpu_is_not_packed() -> None:
    """Of 40 MiB somebody holds 20: one client of 16 MiB fits where two would."""
    busy, free = Gpu("a", MEMORY, others=20 * MIB), Gpu("a", MEMORY)
    assert [len(slot.clients) for slot in pack_clients([16 * MIB] * 3, [busy, free])] == [1, 1, 1]
    assert max(len(slot.clients) for slot in pack_clients([16 * MIB] * 3, [busy])) == 3
    with pytest.raises(ConfigError, match=r"largest GPU here \(40\.0 MiB, 20\.0 MiB of which others hold\)"):
        pack_clients([24 * MIB], [busy])


def test_an_actor_on_another_gpu_than_planned_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="this"))
    actor = ClientActor(1, "cpu", {}, 0, "that")
    with pytest.raises(ConfigError, match="Ray gave this actor the GPU this, and its clients were packed for that"):
        actor.setup(None, False, MIB)  # type: ignore[arg-type]


def test_what_the_drivers_tool_says_is_read_by_the_gpus_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'GPU-aa-1, 2048\\nGPU-bb-2, 0\\nGPU-cc-3, [N/A]\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert devices.held_by_others() == {"aa-1": 2048 * MIB, "bb-2": 0}
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.held_by_others() == {}


class Told:
    """A host that answers with what it is asked, or has no memory."""

    def __init__(self, full: bool = False):
        self.full, self.held, self.model = full, [], self

    def hold(self, row: np.ndarray) -> None:
        self.held.append(row.tolist())

    def probe(self, plan: Any, clients: list[int], active: np.ndarray, alone: bool) -> list[Report]:
        assert alone, "it holds the hidden states that its budget counts"
        if self.full:
            raise torch.OutOfMemoryError
        return [Report(clients[0], np.ones(2, np.float32), 0.5, 1, 1, 1.0, 1.0)]


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """PyTorch's answers made up in this process; the caps that it was given."""
    caps: list[float] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=MEMORY))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", caps.append)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: RESERVED)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: ALLOCATED)
    return caps


def capped(host: Told, offloads: bool = False) -> ClientActor:
    actor = ClientActor(1, "cpu", {3: 10 * MIB, 4: 2 * MEMORY}, CONTEXT)
    actor._host, actor._offloads = host, offloads
    return actor


def test_a_client_works_under_its_own_cap_and_says_what_it_took(pretending: list[float]) -> None:
    host, rows = Told(), np.array([[True, False], [False, True]])
    for offloads in (False, True):
        actor = capped(host, offloads)
        reports = [actor._probe_capped(None, n, row) for n, row in zip((3, 4), rows, strict=True)]  # type: ignore[arg-type]
        assert [report.client for report in reports] == [3, 4]
        assert {report.measured_bytes for report in reports} == {CONTEXT + RESERVED}
        assert {report.allocated_bytes for report in reports} == {CONTEXT + ALLOCATED}
    assert pretending[::2] == [0.25, 1.0] * 2  # of the GPU; never more than all of it
    assert set(pretending[1::2]) == {1.0}  # and none once the client is done
    assert host.held == rows.tolist()  # blocks leave the device only where some may


def test_a_client_that_does_not_fit_says_so(pretending: list[float]) -> None:
    report = capped(Told(full=True))._probe_capped(None, 3, np.array([True]))  # type: ignore[arg-type]
    assert (report.client, report.status) == (3, "out_of_memory")


@pytest.fixture
def lost_node(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of two nodes one is left; the actors that were killed."""
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(pool, "alive_nodes", lambda: {"left"})
    return killed


def pool_of(*slots: Slot) -> Pool:
    return Pool(members(*slots), start, config_of(), WATCH, MIB)


def members(*slots: Slot) -> list[Member]:
    return [Member(slot, f"actor of {slot.name}", slot.clients, Standing(1, "lost" if i == 0 else "left"))
            for i, slot in enumerate(slots)]  # fmt: skip


def start(slot: Slot) -> Any:
    raise AssertionError("nothing can start on a node that is gone")


def test_the_others_carry_on_what_a_cohort_on_a_lost_node_left(lost_node: list[Any]) -> None:
    slots = [Slot(f"cohort-{g}", (), g, 1.0) for g in range(3)]
    ours = pool_of(*slots)
    first = ours.members[0]
    carrier = ours._replace(first, ray.exceptions.RayActorError())
    assert carrier.slot.name in ("cohort-1", "cohort-2") and first not in ours.members and len(ours.members) == 2
    assert "actor of cohort-0" in lost_node
    assert any(fault.startswith("cohort-0 is gone with its node; 2 actors carry on") for fault in ours.faults)
    others = {ours._recover(first, first.actor, ray.exceptions.RayActorError()).slot.name for _ in range(2)}
    assert others == {"cohort-1", "cohort-2"}, "what is left is spread"


def test_the_last_cohort_and_a_client_bound_to_a_gpu_stop_the_run_with_one_line(lost_node: list[Any]) -> None:
    for slot, said in (
        (Slot("cohort-0", (), 0, 1.0), "the last node with client actors left"),
        (Slot("client-7", (7,), 0, 0.4, (MIB,)), "the node with the GPU of client-7 left the cluster"),
    ):
        ours = pool_of(slot)
        with pytest.raises(ConfigError, match=said) as caught:
            ours._replace(ours.members[0], ray.exceptions.RayActorError())
        assert "\n" not in str(caught.value)


def test_a_client_without_a_gpu_of_its_own_stands_up_on_any_node(lost_node: list[Any]) -> None:
    ours = pool_of(Slot("client-7", (7,)))
    assert not ours._gone(ours.members[0])
    assert ours._gone(replace(ours.members[0], slot=Slot("client-7", (7,), 0)))
