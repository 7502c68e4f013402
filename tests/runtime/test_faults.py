"""Accidents: exceptions in clients, clients that drop out of a run, full disks, full object stores. Nothing is lost."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from one_ray import driving, finished

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import LedgerWriter, read_ledger
from zorba_ray.messages import Report, RoundPlan, Step
from zorba_ray.records.stream import table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER, writing_to
from zorba_ray.runs.simulate import Here, begin, simulate
from zorba_ray.runtime import launch
from zorba_ray.runtime.client import ClientActor
from zorba_ray.runtime.driver import Driver

SMALL = [
    "clients.count=4", "rounds=4", "zo.directions=2", "seed=3", "allocation.plan=cyclic",
    "evaluation.every=4", "evaluation.examples=32", "task.train_examples=200", "task.test_examples=40",
    "clients.batch=4", "task.max_tokens=24",
]  # fmt: skip

TURNS = ["placement=per_client", "runtime.actors=2"]  # four clients, two at a time


def config_of(*overrides: str) -> Config:
    return load_config(None, [*SMALL, *overrides])


def raising(where: Path, times: int) -> type:
    """Client actors that raise when they probe client 0 in round 1, so many times over all of them."""

    class RaisingActor(ClientActor):
        def probe(
            self, steps: list[Step], plan: RoundPlan, clients: list[int], active: NDArray[np.bool_]
        ) -> list[Report]:
            if plan.round == 1 and 0 in clients and len(list(where.iterdir())) < times:
                (where / str(len(list(where.iterdir())))).touch()
                raise RuntimeError("cuBLAS fell over")
            return super().probe(steps, plan, clients, active)

    return RaisingActor


def run_with(actors: type, monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> Driver:
    monkeypatch.setattr(launch, "ClientActor", actors)
    driver = Driver(config_of(*overrides), str(folder), resume=False)
    driver.prepare()
    try:
        finished(driver)
    finally:
        driver.session.claim.release()  # as when its process ends
        for member in driver.backend.pool.members:
            ray.kill(member.actor)
    return driver


def stumble(actor: Any) -> None:
    """Inside an actor: the next work on client 0 in round 1 raises, instead of being done."""
    probe = actor._host.probe

    def raising(plan: RoundPlan, clients: list[int], active: NDArray[np.bool_]) -> list[Report]:
        if plan.round == 1 and 0 in clients:
            raise RuntimeError("cuBLAS fell over")
        return probe(plan, clients, active)

    actor._host.probe = raising


def run_stumbling(folder: Path, *overrides: str) -> Driver:
    """A run in which every actor that there is at its start stumbles; whoever takes its place does not."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import this file
    with driving(config_of(*overrides), folder) as driver:
        ray.get([member.actor.__ray_call__.remote(stumble) for member in driver.backend.pool.members])
        finished(driver)
    return driver


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("oracle") / "run"
    in_process(folder)
    return (folder / LEDGER).read_bytes()


def in_process(folder: Path, resume: bool = False) -> None:
    simulate(config_of(), folder, resume=resume)


@pytest.mark.parametrize("placement", ["per_client", "cohort"])
def test_an_exception_in_a_client_is_computed_again(
    local_ray: None, tmp_path: Path, oracle: bytes, placement: str
):
    driver = run_stumbling(tmp_path / "run", f"placement={placement}", "runtime.actors=2")
    (fault,) = driver.backend.pool.faults
    assert "raised an exception" in fault and "cuBLAS fell over" in fault
    assert (tmp_path / "run" / LEDGER).read_bytes() == oracle


def test_dropping_is_explicit_and_recorded(local_ray: None, tmp_path: Path, oracle: bytes):
    run_stumbling(tmp_path / "run", *TURNS, "runtime.on_fault=drop")
    rows = [row for row in table(tmp_path / "run").to_pylist() if row["kind"] == "client"]
    lost = [(row["round"], row["client"]) for row in rows if row["status"] == "lost"]
    assert lost == [(1, 0)] and len(rows) == 4 * 4  # client 2, which waited behind it, is computed again
    assert (tmp_path / "run" / LEDGER).read_bytes() != oracle
    assert len(read_ledger(tmp_path / "run" / LEDGER).entries) == 4


def test_too_few_left_after_dropping_stop_the_run_with_one_line(local_ray: None, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"round 1: 1 of 4 reports were left out \(lost\), and 3 remain") as caught:
        run_stumbling(tmp_path / "run", *TURNS, "runtime.on_fault=drop", "faults.min_clients=4")
    assert "\n" not in str(caught.value)
    assert len(read_ledger(tmp_path / "run" / LEDGER).entries) == 1


@pytest.mark.slow
def test_an_exception_that_comes_back_stops_the_run_and_names_it(
    local_ray: None, tmp_path: Path, oracle: bytes, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "raised").mkdir()
    actors = raising(tmp_path / "raised", 100)
    with pytest.raises(ConfigError, match=r"failed 4 times .*cuBLAS fell over") as caught:
        run_with(actors, monkeypatch, tmp_path / "run", "runtime.actors=1")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    in_process(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / LEDGER).read_bytes() == oracle


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, every file of this process ends at so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 40, 200])
def test_a_full_disk_leaves_a_whole_ledger_and_a_run_to_resume(tmp_path: Path, oracle: bytes, room: int):
    """The disk fills in the middle of a line: after the header, and any number of bytes of what follows."""
    folder = tmp_path / "run"
    header = len(oracle.splitlines(keepends=True)[0]) + len(oracle.splitlines(keepends=True)[1])
    simulation = begin(config_of(), folder, False, Here())
    full = pytest.raises(ConfigError, match=r"cannot write to .*File too large.*--resume")
    with full as caught, writing_to(folder), files_of_at_most(header + room):
        for _ in simulation.events:
            pass
    assert "\n" not in str(caught.value)
    simulation.finish(stopped="the disk was full")
    written = (folder / LEDGER).read_bytes()
    assert oracle.startswith(written) and written.endswith(b"\n")
    assert not read_ledger(folder / LEDGER).cut
    in_process(folder, resume=True)
    assert (folder / LEDGER).read_bytes() == oracle


def test_a_line_that_did_not_fit_leaves_no_trace(tmp_path: Path, oracle: bytes):
    """The writer goes on where it was once there is room again."""
    (tmp_path / "whole").write_bytes(oracle)
    ledger = read_ledger(tmp_path / "whole")
    writer = LedgerWriter(tmp_path / "part", ledger.header)
    for number, entry in enumerate(ledger.entries):
        size = (tmp_path / "part").stat().st_size
        if number == 2:
            with pytest.raises(OSError), files_of_at_most(size + 17):
                writer.append(entry)
            assert (tmp_path / "part").stat().st_size == size
            break
        writer.append(entry)
    writer.close()
    again = LedgerWriter(tmp_path / "part", ledger.header)
    for entry in ledger.entries[again.rounds :]:
        again.append(entry)
    again.close()
    assert (tmp_path / "part").read_bytes() == oracle


def test_the_pool_reads_the_base_again_when_it_is_lost(local_ray: None, tmp_path: Path, oracle: bytes):
    """A fresh actor finds the base gone from the object store, as when it was only on a node that was lost."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

    class Keeper:
        """An object belongs to whoever put it, and is lost with its owner."""

        def keep(self, value: Any) -> list[Any]:
            return [ray.put(value)]

    with driving(config_of("runtime.actors=1"), tmp_path / "run") as driver:
        pool = driver.backend.pool
        ray.get(pool.members[0].actor.__ray_call__.remote(stumble))
        keeper = ray.remote(Keeper).options(num_cpus=0).remote()
        (pool.base,) = ray.get(keeper.keep.remote(ray.get(pool.base)))
        ray.kill(keeper)
        lost = time.monotonic() + 30  # Ray learns of a death a little later, and until then the object is there
        with suppress(ray.exceptions.ObjectLostError):
            while time.monotonic() < lost:
                ray.get(pool.base)
                time.sleep(0.1)
        assert finished(driver) == oracle
    assert any("read again" in fault for fault in pool.faults)
