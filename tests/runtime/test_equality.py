"""Placement and accidents do not change results: the same ledger, to the byte."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
from one_ray import driving, finished, run_warm

from zorba_ray.allocation import Plan
from zorba_ray.config.schema import Config
from zorba_ray.ledger import read_ledger
from zorba_ray.records.schema import RoundRecord
from zorba_ray.records.stream import table
from zorba_ray.rounds.loop import Diverged
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.replay import replayed_model
from zorba_ray.runs.simulate import Here, begin
from zorba_ray.runs.summary import read_summary
from zorba_ray.runtime.connect import start_driver
from zorba_ray.runtime.driver import Driver
from zorba_ray.runtime.launch import answer
from zorba_ray.runtime.pool import Pool

SMALL = [
    "clients.count=4", "rounds=5", "zo.directions=3", "seed=5", "allocation.plan=cyclic",
    "evaluation.every=2", "evaluation.examples=96", "task.train_examples=200", "task.test_examples=120",
    "clients.batch=4", "task.max_tokens=24",
]  # fmt: skip


def config_of(*overrides: str) -> Config:
    return load_config(None, [*SMALL, *overrides])


def run_on_ray(folder: Path, *overrides: str) -> bytes:
    """A run on warm client actors; the ledger's bytes."""
    return run_warm(config_of(*overrides), folder)


def run_by_a_driver_actor(folder: Path, *overrides: str) -> bytes:
    """A run as the command does it, by a real driver actor on client actors of its own; the ledger's bytes."""
    driver = start_driver(Driver, config_of(*overrides), str(folder), False)
    answer(driver.prepare.remote())
    while answer(driver.advance.remote()):
        pass
    answer(driver.finish.remote(False, "", 1.0))
    ray.kill(driver)
    return (folder / LEDGER).read_bytes()


def run_in_process(folder: Path, *overrides: str, resume: bool = False, stop_after: int | None = None) -> bytes:
    """The oracle: the same run in this process, without Ray."""
    simulation = begin(config_of(*overrides), folder, resume, Here())
    try:
        for event in simulation.events:
            if isinstance(event, RoundRecord) and event.round + 1 == stop_after:
                break
    finally:
        simulation.finish(interrupted=stop_after is not None)
    return (folder / LEDGER).read_bytes()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return run_in_process(tmp_path_factory.mktemp("oracle"))


def test_twice_the_same_run_in_process(tmp_path: Path, oracle: bytes):
    assert run_in_process(tmp_path) == oracle


def test_another_seed_is_another_run(tmp_path: Path, oracle: bytes):
    assert run_in_process(tmp_path, "seed=6") != oracle


@pytest.mark.parametrize("placement", ["placement=per_client", "runtime.actors=1", "runtime.actors=3"])
def test_every_placement_writes_the_oracles_ledger(local_ray: None, tmp_path: Path, oracle: bytes, placement: str):
    assert run_on_ray(tmp_path, placement) == oracle


def test_a_driver_actor_with_client_actors_of_its_own_writes_the_oracles_ledger(
    local_ray: None, tmp_path: Path, oracle: bytes
):
    assert run_by_a_driver_actor(tmp_path, "runtime.actors=2") == oracle


def test_the_ledger_replays_to_the_drivers_model(local_ray: None, tmp_path: Path):
    run_on_ray(tmp_path, "zo.noise=rademacher")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert replayed_model(tmp_path).sha256 == summary["model_sha256"]
    assert replayed_model(tmp_path, rounds=3).sha256 != summary["model_sha256"]


def test_a_client_killed_in_mid_round_changes_nothing(
    local_ray: None, tmp_path: Path, oracle: bytes, monkeypatch: pytest.MonkeyPatch
):
    """Kill a client's process right after its work of round 2 was sent, in a pool owned by this process."""
    send = Pool._send
    killed: list[str] = []

    def send_and_kill(self: Pool, call: str, member: Any, arguments: tuple[Any, ...]) -> Any:
        reference = send(self, call, member, arguments)
        if call == "probe" and arguments[0].round == 2 and not killed:
            os.kill(member.standing.pid, signal.SIGKILL)
            killed.append(member.slot.name)
        return reference

    monkeypatch.setattr(Pool, "_send", send_and_kill)
    assert run_on_ray(tmp_path, "placement=per_client") == oracle
    assert killed and any(killed[0] in note for note in read_summary(tmp_path).notes)
    assert len([row for row in table(tmp_path).to_pylist() if row["kind"] == "client"]) == 5 * 4


@pytest.mark.parametrize("stop_after", [1, 2, 4])
@pytest.mark.parametrize("lose_records", [False, True])
def test_a_resumed_run_arrives_at_the_same_bytes(tmp_path: Path, oracle: bytes, stop_after: int, lose_records: bool):
    assert len(run_in_process(tmp_path, stop_after=stop_after)) < len(oracle)
    assert read_summary(tmp_path).interrupted
    if lose_records:
        for part in (tmp_path / "records").rglob("*.parquet"):
            part.unlink()
    assert run_in_process(tmp_path, resume=True) == oracle
    assert read_summary(tmp_path).rounds_done == 5
    rows = table(tmp_path).to_pylist()
    assert [row["round"] for row in rows if row["kind"] == "round"] == [0, 1, 2, 3, 4]
    assert [row["round"] for row in rows if row["kind"] == "evaluation"] == [0, 2, 4, 5]
    assert len([row for row in rows if row["kind"] == "client"]) == 5 * 4


def test_a_diverging_run_stops_with_its_last_good_state(tmp_path: Path):
    with pytest.raises(Diverged, match=r"diverged at round \d+: .*Lower step\.lr") as caught:
        run_in_process(tmp_path, "step.lr=3.0", "rounds=30", "guard.loss_multiple=1.05")
    assert "\n" not in str(caught.value)
    ledger = read_ledger(tmp_path / LEDGER)
    summary = read_summary(tmp_path)
    assert 0 < len(ledger.entries) == summary.rounds_done < 30
    assert replayed_model(tmp_path).sha256 == summary.model_sha256


def test_estimated_and_renewed_plans_are_the_same_wherever_they_are_computed(local_ray: None, tmp_path: Path):
    renewed = ["allocation.statistics=estimated", "allocation.every=2", "allocation.plan=zorba", "rounds=4",
               "allocation.probe_clients=2", "allocation.probe_directions=2"]  # fmt: skip
    expected = run_in_process(tmp_path / "here", *renewed)
    assert run_on_ray(tmp_path / "ray", *renewed) == expected
    run_in_process(tmp_path / "part", *renewed, stop_after=3)
    assert run_in_process(tmp_path / "part", *renewed, resume=True) == expected
    for suffix in ("", "-000002"):
        statistics = [(tmp_path / name / f"statistics{suffix}.json").read_text() for name in ("here", "ray", "part")]
        assert len(set(statistics)) == 1 and json.loads(statistics[0])["estimated"]
        plans = [Plan.from_json(json.loads((tmp_path / name / f"allocation{suffix}.json").read_text()))
                 for name in ("here", "ray", "part")]  # fmt: skip
        assert all((plan.matrix == plans[0].matrix).all() for plan in plans)
    probes = [row for row in table(tmp_path / "ray").to_pylist() if row["status"] == "statistics"]
    assert len(probes) == 2 * 2 * 2 * 6 and all(row["bytes_up"] == 4 * 2 * 2 for row in probes)  # a block at a time


def test_private_noise_is_the_same_wherever_it_is_computed(local_ray: None, tmp_path: Path):
    private = ["zo.shared=false", "participation.clients=3", "rounds=3", "allocation.rotate=true"]
    assert run_on_ray(tmp_path / "ray", *private) == run_in_process(tmp_path / "here", *private)


@pytest.mark.slow
def test_many_clients_of_their_own_actors_take_turns_on_one_machine(local_ray: None, tmp_path: Path) -> None:
    """200 clients, each bound to an actor, in 50 waves on four actors: the ledger of one process."""
    keys = ("clients.count=200", "rounds=1", "zo.directions=1", "clients.batch=1")
    config = config_of(*keys, "placement=per_client", "runtime.actors=4")
    with driving(config, tmp_path / "ray") as driver:
        assert "200 clients take turns in 4 actors, 50 waves" in driver.site.reason
        assert sorted(n for member in driver.backend.pool.members for n in member.clients) == list(range(200))
        assert finished(driver) == run_in_process(tmp_path / "here", *keys)
