"""Placement and accidents do not change results: the same ledger, to the byte."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray

from zorba_ray.config.load import load_config
from zorba_ray.config.schema import Config
from zorba_ray.ledger import read_ledger
from zorba_ray.rounds.folder import LEDGER
from zorba_ray.rounds.local import LocalBackend
from zorba_ray.rounds.prepare import build_host, prepare
from zorba_ray.rounds.replay import replayed_model
from zorba_ray.rounds.session import Session
from zorba_ray.runtime.driver import Driver
from zorba_ray.runtime.launch import answer
from zorba_ray.runtime.pool import Pool

pytestmark = pytest.mark.ray

SMALL = ["clients.count=4", "rounds=5", "evaluation.every=2", "evaluation.examples=96", "zo.directions=3", "seed=5"]


def config_of(*overrides: str) -> Config:
    return load_config(None, [*SMALL, *overrides])


def run_on_ray(folder: Path, *overrides: str, rounds: int | None = None, resume: bool = False) -> bytes:
    """A run by a real driver actor on real client actors; the ledger's bytes. `rounds`: stop after about so many."""
    driver = ray.remote(Driver).options(num_cpus=0).remote(config_of(*overrides), str(folder), resume)
    done = answer(driver.prepare.remote()).rounds_done
    while events := answer(driver.advance.remote()):
        done += sum(event.kind == "round" for event in events)
        if rounds is not None and done >= rounds:
            break
    answer(driver.finish.remote(rounds is not None, "", 1.0))
    ray.kill(driver)
    return (folder / LEDGER).read_bytes()


def run_in_process(folder: Path, *overrides: str) -> bytes:
    """The oracle: the same run in this process, without Ray."""
    config = config_of(*overrides)
    prepared = prepare(config)
    session = Session(config, prepared, folder, resume=False)
    for _ in session.events(LocalBackend(build_host(prepared.base, "cpu"), prepared.test_examples)):
        pass
    session.ledger.close()
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
            os.kill(member.pid, signal.SIGKILL)
            killed.append(member.slot.name)
        return reference

    monkeypatch.setattr(Pool, "_send", send_and_kill)
    driver = Driver(config_of("placement=per_client"), str(tmp_path), resume=False)
    driver.prepare()
    while driver.advance():
        pass
    summary = driver.finish(False, "", 1.0)
    assert killed and any(killed[0] in note for note in summary.notes)
    assert (tmp_path / LEDGER).read_bytes() == oracle
    for member in driver.backend.pool.members:
        ray.kill(member.actor)


@pytest.mark.parametrize("lose_records", [False, True])
def test_a_resumed_run_arrives_at_the_same_bytes(local_ray: None, tmp_path: Path, oracle: bytes, lose_records: bool):
    partial = run_on_ray(tmp_path, rounds=1)
    assert len(partial) < len(oracle), "the run should have been interrupted before its end"
    if lose_records:
        for part in (tmp_path / "records").glob("*.parquet"):
            part.unlink()
    assert run_on_ray(tmp_path, resume=True) == oracle
    assert len(read_ledger(tmp_path / LEDGER).entries) == 5
