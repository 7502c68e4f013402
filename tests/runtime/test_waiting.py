"""Nothing waits in silence or for ever: what is waited for is said, and what stands still is given up."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.exceptions
from ray.exceptions import RayError, RayTaskError

from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.config import load_config
from zorba_ray.runtime import launch, waiting
from zorba_ray.runtime.deaths import first_line, is_death, ran_out_of_memory, what_happened
from zorba_ray.runtime.follow import follow
from zorba_ray.runtime.news import News
from zorba_ray.runtime.packing import Standing
from zorba_ray.runtime.waiting import Halted, Late, Watch, pulses

ERRORS = [kind for kind in vars(ray.exceptions).values() if inspect.isclass(kind) and issubclass(kind, RayError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_ray_but_an_exception_of_the_code_itself_is_a_death(kind: type[RayError]):
    error = RayTaskError("probe", "", ValueError()) if kind is RayTaskError else kind.__new__(kind)
    assert is_death(error) is not issubclass(kind, RayTaskError)
    assert ran_out_of_memory(error) is issubclass(kind, ray.exceptions.OutOfMemoryError)


def test_memory_that_ran_out_inside_an_actor_is_told_apart():
    def raised(cause: Exception) -> RayTaskError:
        return RayTaskError("probe", "Traceback\n" + repr(cause), cause)

    assert ran_out_of_memory(raised(MemoryError()))
    assert ran_out_of_memory(raised(RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes")))
    assert not ran_out_of_memory(raised(RuntimeError("cuBLAS fell over")))
    assert what_happened(raised(RuntimeError("x"))) == "raised an exception"
    assert what_happened(ray.exceptions.OutOfMemoryError("low on memory")) == "ran out of memory"
    assert first_line(raised(RuntimeError("x"))) == "RuntimeError('x')"


@pytest.fixture()
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SPEAK", 0.5)
    monkeypatch.setattr(waiting, "GLANCE", 0.1)


class Sleeper:
    def where(self) -> Standing:
        return Standing(os.getpid(), ray.get_runtime_context().get_node_id())

    def nap(self, seconds: float) -> str:
        time.sleep(seconds)
        return "rested"

    def toil(self, seconds: float) -> str:
        """Computes for a tenth of the time, which is far more than who stands still."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sum(range(20_000))
            time.sleep(0.002)
        return "done"


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import this file


def actor(**options: Any) -> Any:
    return ray.remote(Sleeper).options(num_cpus=0, **options).remote()


def test_what_finds_no_room_is_said_and_given_up(local_ray: None, hasty: None):
    watch = Watch(News(), patience=2.0)
    waits = actor(resources={"unicorn": 1})
    with pytest.raises(Late, match=r"room for it did not come within 2.0 s; the cluster has \S+ of \S+ CPUs free"):
        watch.for_room([waits.where.remote()], "room for it")
    lines = watch.news.take()
    assert lines and all("waiting for room for it since" in line and "at most 2.0 s" in line for line in lines)
    assert watch.for_room([waits.where.remote()], "room", gone=lambda: True) is None
    ray.kill(waits)


def test_who_stands_still_is_named_and_given_up_and_who_computes_is_not(local_ray: None, hasty: None):
    watch = Watch(News(), patience=2.0)
    busy, stopped = actor(), actor()
    standings = ray.get([busy.where.remote(), stopped.where.remote()])
    os.kill(standings[1].pid, signal.SIGSTOP)
    try:
        asked = [
            (busy.toil.remote(8.0), "busy", standings[0]),
            (stopped.nap.remote(0.0), "stopped", standings[1]),
        ]
        assert watch.for_answers("probe", "round 3", asked) == [1]
    finally:
        os.kill(standings[1].pid, signal.SIGKILL)
    lines = watch.news.take()
    assert any(line.startswith("round 3 takes") and "stopped stands still" in line for line in lines), lines
    assert not any("busy stands still" in line for line in lines)
    for each in (busy, stopped):
        ray.kill(each)


def test_a_round_that_takes_far_longer_than_usual_says_who_is_silent(local_ray: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "SPEAK", 0.1)
    monkeypatch.setattr(waiting, "GLANCE", 0.1)
    watch = Watch(News(), patience=60.0)
    quick, slow = actor(), actor()
    standings = ray.get([quick.where.remote(), slow.where.remote()])
    for _ in range(5):
        asked = [(each.nap.remote(0.15), "x", where) for each, where in zip((quick, slow), standings, strict=True)]
        assert watch.for_answers("probe", "round", asked) == []
    watch.news.take()
    asked = [(quick.nap.remote(0.1), "quick", standings[0]), (slow.toil.remote(6.0), "slow", standings[1])]
    assert watch.for_answers("probe", "round 6", asked) == []
    lines = watch.news.take()
    assert lines and all("usually" in line and "from slow" in line and "quick" not in line for line in lines), lines
    for each in (quick, slow):
        ray.kill(each)


@pytest.mark.parametrize(("keys", "coming", "offered", "counts", "said"), [
    (["runtime.gpus=2"], False, [0, 1, 1, 2], 2, "waiting for 2 GPUs (runtime.gpus)"),
    ([], True, [0, 0, 1], 1, "waiting for the nodes that the cluster is about to start"),
    ([], False, [0], 0, ""),
    (["runtime.device=cpu"], True, [0], 0, ""),
])  # fmt: skip
def test_gpus_that_are_to_come_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, keys: list[str], coming: bool, offered: list[int], counts: int, said: str
):
    left, watch = list(offered), Watch(News(), patience=60.0)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": left.pop(0) if len(left) > 1 else left[0]})
    monkeypatch.setattr(launch, "nodes_to_come", lambda: coming)
    monkeypatch.setattr(launch, "SPEAK", -1.0)
    monkeypatch.setattr(launch.time, "sleep", lambda seconds: None)
    assert launch.await_gpus(load_config(None, keys).runtime, watch) == counts and len(left) == 1
    assert all(said in line for line in watch.news.take()) and bool(said) == (len(offered) > 1)


def test_gpus_that_do_not_come_are_one_line_and_fewer_cpus_are_used_where_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 1})
    with pytest.raises(ConfigError, match=r"^2 GPUs \(runtime\.gpus\) did not come within .*: the cluster has 1\. "):
        launch.await_gpus(load_config(None, ["runtime.gpus=2", "runtime.patience=1e-9"]).runtime, Watch(News(), 60.0))
    node = {"Alive": True, "Resources": {"memory": 2**36}}
    monkeypatch.setattr(launch, "cluster_nodes", lambda: [node])
    for keys, actors in (([], 8), (["runtime.cpus=3"], 3), (["runtime.cpus=99"], 8)):
        assert len(launch.place_on_cpus(load_config(None, keys), {"CPU": 8}).slots) == actors


def test_a_run_that_should_halt_leaves_the_round(local_ray: None, hasty: None):
    watch = Watch(News(), patience=60.0)
    slow = actor()
    watch.halt_at = time.monotonic() + 0.3
    with pytest.raises(Halted):
        watch.for_answers("probe", "round 1", [(slow.nap.remote(30.0), "slow", Standing(0, ""))])
    ray.kill(slow)


def test_only_of_a_process_that_was_seen_is_it_said_that_it_stands_still(local_ray: None):
    stopped = actor()
    where = ray.get(stopped.where.remote())
    os.kill(where.pid, signal.SIGSTOP)
    try:
        assert pulses([where, Standing(0, "")], within=60.0) == [False, True]
        assert pulses([Standing(2**22 + 1, where.node)], within=60.0) == [True]
        assert pulses([where], within=-0.9) == [True], "a node that does not answer in time"
    finally:
        os.kill(where.pid, signal.SIGKILL)
    ray.kill(stopped)


class Talker:
    def news(self) -> Any:
        raise AssertionError("never asked")


def test_a_driver_that_is_never_started_is_said_and_given_up(local_ray: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("zorba_ray.runtime.follow.SPEAK", 0.5)
    monkeypatch.setattr("zorba_ray.runtime.follow.GLANCE", 0.1)
    lines: list[str] = []
    waits = ray.remote(Talker).options(num_cpus=0, resources={"unicorn": 1}).remote()
    with pytest.raises(ConfigError, match="no sign of life"):
        follow(waits, waits.news.remote(), lines.append, lines.append, 2.0)
    assert lines and all("waiting for the driver's actor" in line for line in lines)
    ray.kill(waits)


def test_a_cluster_whose_cpus_are_taken_is_one_line(local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from zorba_ray.runs.config import load_config
    from zorba_ray.runtime.driver import Driver

    monkeypatch.setattr(waiting, "SPEAK", 0.5)
    holder = ray.remote(Sleeper).options(num_cpus=ray.cluster_resources()["CPU"]).remote()
    ray.get(holder.where.remote())
    driver = Driver(load_config(None, ["runtime.patience=2", "clients.count=2"]), str(tmp_path / "run"), False)
    with pytest.raises(ConfigError, match=r"room for the client actors \(cohort-0.*the cluster has 0 of") as caught:
        driver.prepare()
    assert "\n" not in str(caught.value)
    assert any("waiting for room" in line for line in driver.watch.news.take())
    assert not (tmp_path / "run").exists()
    ray.kill(holder)
    for member in driver.site.pool.members:
        ray.kill(member.actor)
