"""Going on does not take as long as coming there: fresh actors take weights over, resumed runs begin at a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import one_ray
import pytest
import ray
from ray.exceptions import OutOfMemoryError

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import parse_bytes
from zorba_ray.ledger.snapshot import Snapshot, kept, oldest_round, read_snapshots, write_snapshot
from zorba_ray.rounds import host
from zorba_ray.runs import checkpoints
from zorba_ray.runs import simulate as simulation_module
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.replay import replayed_model
from zorba_ray.runs.simulate import Here, begin, simulate
from zorba_ray.runtime import launch
from zorba_ray.runtime.driver import Driver

SMALL = [
    "clients.count=4", "rounds=9", "zo.directions=2", "seed=3", "allocation.plan=cyclic", "runtime.actors=2",
    "evaluation.every=9", "evaluation.examples=32", "checkpoint.every=2", "task.train_examples=200",
    "task.test_examples=40", "clients.batch=4", "task.max_tokens=24",
]  # fmt: skip


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("oracle") / "run"
    simulate(load_config(None, SMALL), folder)
    return (folder / LEDGER).read_bytes()


def driver_of(folder: Path, resume: bool = False, *overrides: str) -> Driver:
    driver = Driver(load_config(None, [*SMALL, *overrides]), str(folder), resume)
    driver.prepare()
    return driver


def rounds(driver: Driver, until: int = 1000) -> None:
    for event in driver.simulation.events:
        if hasattr(event, "loss") and hasattr(event, "lr"):
            if checkpoints.is_due(driver.config, event.round + 1):
                checkpoints.keep(driver.config, driver.folder, driver.session.ledger.seal, driver.site.snapshot)
            if event.round + 1 == until:
                return


@pytest.fixture(autouse=True)
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "starter", one_ray.warm_starter([]))


def leave(driver: Driver) -> None:
    """Its actors go on to the next; of its process nothing holds the folder any more."""
    driver.session.claim.release()
    one_ray._idle.extend(member.actor for member in driver.site.pool.members)


def end(driver: Driver) -> bytes:
    driver.finish(False, "", 1.0)
    leave(driver)
    return (driver.folder / LEDGER).read_bytes()


@pytest.fixture()
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What the pool asked of single actors: the call, and its arguments."""
    from zorba_ray.runtime.pool import Pool

    calls: list[tuple[str, Any]] = []
    ask = Pool._ask

    def noted(self: Pool, member: Any, call: str, what: str, *arguments: Any) -> Any:
        calls.append((call, arguments))
        return ask(self, member, call, what, *arguments)

    monkeypatch.setattr(Pool, "_ask", noted)
    return calls


@pytest.mark.ray
def test_a_fresh_actor_takes_its_weights_from_one_that_is_well(
    local_ray: None, tmp_path: Path, oracle: bytes, asked: list[tuple[str, Any]]
):
    driver = driver_of(tmp_path / "run")
    rounds(driver, 5)
    ray.kill(driver.site.pool.members[1].actor)
    rounds(driver)
    assert [call for call, _ in asked] == ["setup", "adopt"], "no step is replayed"
    assert any("died and was replaced" in fault for fault in driver.site.pool.faults)
    assert end(driver) == oracle


@pytest.mark.ray
@pytest.mark.parametrize("spoiled", ["nothing", "a snapshot", "all snapshots"])
def test_a_resumed_run_begins_at_its_last_snapshot_that_is_sound(
    local_ray: None, tmp_path: Path, oracle: bytes, asked: list[tuple[str, Any]], spoiled: str
):
    folder = tmp_path / "run"
    driver = driver_of(folder)
    rounds(driver, 7)
    assert [path.stem for path in kept(folder)] == ["round-00000004", "round-00000006"], "pruned"
    driver.session.writer.flush()
    leave(driver)
    for path in {"nothing": [], "a snapshot": kept(folder)[1:], "all snapshots": kept(folder)}[spoiled]:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    asked.clear()
    again = driver_of(folder, True)
    replayed = [step.round for call, arguments in asked if call == "apply" for step in arguments[0]]
    assert replayed == {"nothing": [6], "a snapshot": [4, 5, 6], "all snapshots": list(range(7))}[spoiled]
    assert len([call for call, _ in asked if call == "adopt"]) == {"nothing": 2, "a snapshot": 3, "all snapshots": 3}[
        spoiled
    ], "the other actor takes over what the first came to"
    rounds(again)
    assert end(again) == oracle


def test_in_one_process_too_a_resumed_run_begins_at_a_snapshot(
    tmp_path: Path, oracle: bytes, monkeypatch: pytest.MonkeyPatch
):
    config, folder = load_config(None, SMALL), tmp_path / "run"
    monkeypatch.setattr(simulation_module, "BREATH", 0.0)
    first = begin(config, folder, False, Here())
    while first.session.ledger.rounds < 7:
        first.advance()
    first.finish(interrupted=True)
    torn = folder / "snapshots" / ".round-00000008.safetensors.tmp"
    torn.write_bytes(b"half of one")
    applied: list[int] = []
    replay = host.replay

    def noted(vectors: Any, header: Any, steps: Any) -> None:
        applied.extend(step.round for step in steps)
        replay(vectors, header, steps)

    monkeypatch.setattr(host, "replay", noted)
    again = begin(config, folder, True, Here())
    assert applied == [6] and not torn.exists()
    while again.advance():
        pass
    again.finish()
    assert (folder / LEDGER).read_bytes() == oracle


def test_a_snapshot_of_other_rounds_is_passed_over(tmp_path: Path):
    vectors = [np.arange(5, dtype=np.float32), np.zeros(3, dtype=np.float32)]
    for count in (2, 4, 6):
        write_snapshot(tmp_path, Snapshot(count, vectors, f"digest {count}"), f"seal {count}", keep=3)
    seals = [f"seal {i}" for i in range(8)]
    found = list(read_snapshots(tmp_path, seals))
    assert [snapshot.rounds for snapshot in found] == [6, 4, 2] and found[0].sha256 == "digest 6"
    np.testing.assert_array_equal(found[0].vectors[0], vectors[0])
    assert [snapshot.rounds for snapshot in read_snapshots(tmp_path, seals[:6])] == [4, 2], "the ledger was cut"
    assert [snapshot.rounds for snapshot in read_snapshots(tmp_path, [*seals[:4], "x", *seals[5:]])] == [6, 2]
    (kept(tmp_path)[2]).write_bytes(b"torn")
    assert [snapshot.rounds for snapshot in read_snapshots(tmp_path, seals)] == [4, 2]
    assert oldest_round(tmp_path) == 2


@pytest.mark.ray
def test_the_tensors_of_old_rounds_go_with_the_snapshot_that_makes_them_dispensable(local_ray: None, tmp_path: Path):
    folder = tmp_path / "run"
    training = ["method=fedavg", "clients.budgets.classes=[{name: all, budget: 64 MiB}]", "checkpoint.tensors=1",
                "clients.batch=2", "rounds=8", "fedavg.epochs=0"]  # fmt: skip
    driver = driver_of(folder, False, *training)
    rounds(driver, 7)
    names = sorted(path.stem for path in (folder / "tensors").iterdir())
    assert names == ["round-000004", "round-000005", "round-000006"]
    driver.session.writer.flush()
    leave(driver)
    again = driver_of(folder, True, *training)
    rounds(again)
    end(again)
    simulate(load_config(None, [*SMALL, *training]), tmp_path / "whole")
    assert (folder / LEDGER).read_bytes() == (tmp_path / "whole" / LEDGER).read_bytes()
    late, whole = replayed_model(folder), replayed_model(tmp_path / "whole")
    assert (late.start, whole.start) == (6, 0) and late.sha256 == whole.sha256
    assert replayed_model(folder, 5).sha256 == replayed_model(tmp_path / "whole", 5).sha256
    with pytest.raises(ConfigError, match=r"round-000002.* is missing.*, or replay to round 4 or a later one"):
        replayed_model(folder, 3)


@pytest.mark.ray
def test_an_actor_that_ran_out_of_memory_is_not_started_again_beside_the_others(
    local_ray: None, tmp_path: Path, oracle: bytes
):
    driver = driver_of(tmp_path / "run")
    pool = driver.site.pool
    rounds(driver, 3)
    first, second = pool.members
    assert pool._recover(first, first.actor, OutOfMemoryError("the node was low on memory")) is second
    assert pool.members == [second] and "cohort-1 carries on alone" in pool.faults[-1]
    before = pool.hidden
    assert pool._recover(second, second.actor, OutOfMemoryError("still")) is second and second.well
    assert pool.hidden == before // 4 and pool.faults[-2].endswith("64.0 MiB of hidden states at once")
    rounds(driver)
    pool.hidden = parse_bytes("1 MiB")
    with pytest.raises(ConfigError, match=r"cohort-1 ran out of memory, even with 1.00 MiB .*1 actors: again"):
        pool._recover(second, second.actor, OutOfMemoryError("again"))
    assert end(driver) == oracle


@pytest.mark.ray
def test_clients_of_their_own_actors_move_when_memory_runs_out(local_ray: None, tmp_path: Path, oracle: bytes):
    driver = driver_of(tmp_path / "run", False, "placement=per_client")
    pool = driver.site.pool
    rounds(driver, 3)
    pool._recover(pool.members[0], pool.members[0].actor, OutOfMemoryError("low"))
    assert [sorted(member.clients) for member in pool.members] == [[0, 1, 2, 3]]
    rounds(driver)
    assert end(driver) == oracle


def test_no_more_actors_stay_on_a_node_than_its_memory_holds(local_ray: None, tmp_path: Path):
    from zorba_ray.runtime.hosting import fit
    from zorba_ray.runtime.launch import cluster_nodes

    driver = driver_of(tmp_path / "run")
    (node,) = cluster_nodes()
    memory = int(node["Resources"]["memory"])
    assert fit(driver.site.pool, memory // 2) == "" and len(driver.site.pool.members) == 2
    assert "1 of 2 stay" in fit(driver.site.pool, memory // 2 + 1) and len(driver.site.pool.members) == 1
    assert "one needs about" in fit(driver.site.pool, 2 * memory) and len(driver.site.pool.members) == 1
    end(driver)
