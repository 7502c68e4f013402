"""Several nodes, for real: Ray's own cluster of raylets on this machine, with nodes that die, runs that share it, and
what is moved between them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.actor import ActorMethod
from ray.cluster_utils import Cluster
from runtime.test_equality import config_of, run_in_process

from zorba_ray.records.schema import RoundRecord
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runtime.connect import start_driver
from zorba_ray.runtime.driver import Driver
from zorba_ray.runtime.launch import answer
from zorba_ray.runtime.metrics import Metrics
from zorba_ray.runtime.pool import Member, Pool

pytestmark = [pytest.mark.ray, pytest.mark.slow]

QUICK = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "metrics_report_interval_ms": 1000}


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Cluster]:
    """Three nodes of one CPU each; this process is on the head."""
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    cluster.wait_for_nodes()
    while ray.cluster_resources().get("CPU") != 3:  # the head's view of the others comes later still
        time.sleep(0.1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return run_in_process(tmp_path_factory.mktemp("oracle"))


def prepared(folder: Path, *overrides: str) -> Driver:
    """A driver in this process, before its first round; its clients are real actors."""
    driver = Driver(config_of(*overrides), str(folder), resume=False)
    driver.prepare()
    return driver


def finished(driver: Driver) -> bytes:
    """The rest of the run; the ledger's bytes."""
    while driver.advance():
        pass
    driver.finish(False, "", 1.0)
    for member in driver.backend.pool.members:
        ray.kill(member.actor)
    return (driver.folder / LEDGER).read_bytes()


@pytest.mark.parametrize("placement", ["per_client", "cohort"])
def test_placements_on_three_nodes_write_the_oracles_ledger(
    three_nodes: Cluster, tmp_path: Path, oracle: bytes, placement: str
):
    driver = prepared(tmp_path, f"placement={placement}")
    assert len({member.standing.node for member in driver.backend.pool.members}) > 1
    assert finished(driver) == oracle


@pytest.mark.parametrize("placement", ["per_client", "cohort"])
def test_a_node_killed_in_mid_round_changes_nothing(
    three_nodes: Cluster, tmp_path: Path, oracle: bytes, monkeypatch: pytest.MonkeyPatch, placement: str
):
    """The node and all on it stop dead, right after one of its actors was sent its work of round 2."""
    send = Pool._send
    workers = {node.node_id: node for node in three_nodes.worker_nodes}
    killed: list[str] = []

    def send_and_kill(self: Pool, call: str, member: Member, arguments: tuple[Any, ...]) -> Any:
        reference = send(self, call, member, arguments)
        node = member.standing.node
        if call == "probe" and arguments[0].round == 2 and not killed and node in workers:
            there = [other for other in self.members if other.standing.node == node]
            for other in there:
                os.kill(other.standing.pid, signal.SIGSTOP)
            three_nodes.remove_node(workers[node], allow_graceful=False)
            for other in there:
                os.kill(other.standing.pid, signal.SIGKILL)
            killed.extend(other.slot.name for other in there)
        return reference

    monkeypatch.setattr(Pool, "_send", send_and_kill)
    try:
        ledger = finished(prepared(tmp_path, f"placement={placement}"))
    finally:
        three_nodes.add_node(num_cpus=1)
    notes = json.loads((tmp_path / "summary.json").read_text())["notes"]
    assert killed and all(any(note.startswith(f"{name} ") for note in notes) for name in killed), notes
    assert ledger == oracle


@pytest.mark.release
def test_two_runs_on_one_cluster_at_once_do_not_disturb_each_other(three_nodes: Cluster, tmp_path: Path):
    seeds = [5, 6]
    drivers = [
        start_driver(Driver, config_of(f"seed={seed}", "placement=per_client"), str(tmp_path / f"{seed}"), False)
        for seed in seeds
    ]
    for briefing in [driver.prepare.remote() for driver in drivers]:
        answer(briefing)
    names = [entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)]
    assert names.count("zorba-driver-run") == names.count("client-3") == 2, names
    running = True
    while running:
        running = any(ray.get([driver.advance.remote() for driver in drivers]))
    for summary in [driver.finish.remote(False, "", 1.0) for driver in drivers]:
        answer(summary)
    for seed, driver in zip(seeds, drivers, strict=True):
        ray.kill(driver)
        expected = run_in_process(tmp_path / f"alone-{seed}", f"seed={seed}")
        assert (tmp_path / f"{seed}" / LEDGER).read_bytes() == expected


@pytest.mark.release
def test_weights_lie_once_on_every_node(three_nodes: Cluster, tmp_path: Path):
    driver = prepared(tmp_path, "placement=per_client", "clients.count=6")
    pool = driver.backend.pool
    where = ray.experimental.get_object_locations([pool.base])[pool.base]
    nodes = {member.standing.node for member in pool.members}
    assert 1 < len(nodes) < len(pool.members)
    assert sorted(where["node_ids"]) == sorted(nodes)
    size = where["object_size"]
    assert size > 4 * sum(block.size for block in ray.get(pool.base).header.blocks)
    for node in ray.nodes():
        if node["NodeID"] in nodes:
            assert size <= object_store_bytes(node) < 2 * size
    for member in pool.members:
        ray.kill(member.actor)


def object_store_bytes(node: dict[str, Any]) -> int:
    """What lies in a node's object store now."""
    from ray._private.internal_api import node_stats

    stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"])
    return int(stats.store_stats.object_store_bytes_used)


def scribble(actor: Any) -> None:
    """Inside an actor: overwrite what steps change."""
    for block in actor._host.model.blocks:
        block.vector.fill_(7)


def stored_sha256(pool: Pool) -> str:
    """Of every array of the base, as it lies in the object store."""
    digest = hashlib.sha256()
    for name, array in sorted(ray.get(pool.base).weights.items()):
        assert not array.flags.writeable
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


@pytest.mark.release
def test_nobody_sees_what_another_process_writes(three_nodes: Cluster, tmp_path: Path):
    """Steps change private copies: not those of another actor on the node, nor the object store's, which weights that
    no step changes are read from in place."""
    driver = prepared(tmp_path, "placement=per_client", "clients.count=6")
    pool = driver.backend.pool
    nodes = [member.standing.node for member in pool.members]
    crowded = max(nodes, key=nodes.count)
    assert nodes.count(crowded) > 1  # six actors on three nodes: two that share an object store
    pool.members.sort(key=lambda member: member.standing.node != crowded)
    first = pool.members[0]
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors cannot import this file

    def digests() -> list[str]:
        return ray.get([member.actor.digest.remote([]) for member in pool.members])

    before, stored = digests(), stored_sha256(pool)
    assert set(before) == {driver.session.prepared.outline.header.base_sha256}
    ray.get(first.actor.__ray_call__.remote(scribble))
    after = digests()
    assert after[0] != before[0] and after[1:] == before[1:]
    assert stored_sha256(pool) == stored
    pool._replace(first, ray.exceptions.RayActorError())
    assert digests() == before
    finished(driver)
    assert stored_sha256(pool) == stored


def wider_model(folder: Path) -> Path:
    """The embedded model's kind with twice its width, so four times its weights, and its tokenizer."""
    import transformers

    from zorba_ray.playground import MODEL

    config = transformers.AutoConfig.from_pretrained(MODEL)
    for name in ("hidden_size", "ffn_dim", "word_embed_proj_dim"):
        setattr(config, name, 2 * getattr(config, name))
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
    return folder


def test_what_a_round_moves_does_not_grow_with_the_model(
    three_nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Arguments and answers of every call on an actor during the rounds, as Ray pickles them."""
    remote = ActorMethod._remote
    sent: list[tuple[str, int, Any]] = []

    def weighing(self: ActorMethod, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        reference = remote(self, args, kwargs, *rest, **options)
        sent.append((self._method_name, len(ray.cloudpickle.dumps((args, kwargs))), reference))
        return reference

    def round_bytes(folder: Path, *overrides: str) -> tuple[int, int, int]:
        """Parameters; bytes of setting up; bytes of the rounds."""
        sent.clear()
        driver = prepared(folder, "clients.budgets.classes=[{name: all, budget: 64 MiB}]", *overrides)
        weights = ray.get(driver.backend.pool.base).weights.values()
        setting_up = len(sent)
        while driver.advance():
            pass
        moved = sum(
            size + len(ray.cloudpickle.dumps(ray.get(reference)))
            for call, size, reference in sent[setting_up:]
            if call == "probe"
        )
        assert {call for call, _, _ in sent[setting_up:]} <= {"probe", "evaluate"}
        for member in driver.backend.pool.members:
            ray.kill(member.actor)
        return sum(array.size for array in weights), sum(size for _, size, _ in sent[:setting_up]), moved

    monkeypatch.setattr(ActorMethod, "_remote", weighing)
    small = round_bytes(tmp_path / "small")
    large = round_bytes(tmp_path / "large", f"model.path={wider_model(tmp_path / 'model')}")
    assert large[0] > 3 * small[0]
    assert large[1] < 100_000 and small[1] < 100_000  # the base goes by reference
    assert large[2] < 1.02 * small[2] and small[2] / 5 < 50_000


def scrape(node: dict[str, Any]) -> dict[str, float]:
    """The node's samples that are ours: name{run, status or actor} -> value."""
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as page:
        lines = page.read().decode().splitlines()
    samples = {}
    for line in lines:
        found = re.fullmatch(r'(ray_zorba_\w+)\{(.*)\} (\S+)', line)
        if found and 'run="scraped"' in found[2] and 'le="' not in found[2]:
            label = re.search(r'(?:status|actor)="([^"]*)"', found[2])
            samples[f"{found[1]}{'/' + label[1] if label else ''}"] = float(found[3])
    return samples


@pytest.mark.release
def test_prometheus_finds_the_runs_numbers_on_the_nodes(three_nodes: Cluster, tmp_path: Path):
    driver = prepared(tmp_path, "name=scraped", "placement=per_client")
    records = [event for events in iter(driver.advance, []) for event in events]
    rounds = [record for record in records if isinstance(record, RoundRecord)]
    samples: dict[str, float] = {}
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for node in ray.nodes():
            if node["Alive"]:
                samples |= scrape(node)
        if samples.get("ray_zorba_rounds_total") == 5 and "ray_zorba_resident_bytes/client-3" in samples:
            break
        time.sleep(0.5)
    assert samples["ray_zorba_rounds_total"] == samples["ray_zorba_round_seconds_count"] == 5
    assert samples["ray_zorba_bytes_up_total"] == sum(record.bytes_up for record in rounds)
    assert samples["ray_zorba_bytes_down_total"] == sum(record.bytes_down for record in rounds)
    assert samples["ray_zorba_client_reports_total/ok"] == 5 * 4
    assert samples["ray_zorba_loss"] == pytest.approx(rounds[-1].loss)
    assert 0 < samples["ray_zorba_test_accuracy"] <= 1 and samples["ray_zorba_test_loss"] > 0
    for actor in ("driver", "client-0", "client-1", "client-2", "client-3"):
        assert 50 * 2**20 < samples[f"ray_zorba_resident_bytes/{actor}"] < 4 * 2**30
    finished(driver)


def test_metrics_wait_for_nobody(three_nodes: Cluster, monkeypatch: pytest.MonkeyPatch):
    """They go through this process's own recorder; a round never asks the cluster to take them."""
    metrics = Metrics("cost")

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("a metric asked the cluster")

    for name in ("get", "put", "wait", "nodes"):
        monkeypatch.setattr(ray, name, asked)
    monkeypatch.setattr(ActorMethod, "_remote", asked)
    for t in range(3):
        record = RoundRecord(t, 1.0, 0.1, 4, 100, 100, 0.1, 1.0, 0.0, 1.0)
        metrics.observe(record, {"ok": 4 * t, "late": t}, t)


def test_a_killed_driver_is_one_line_and_resuming_arrives_at_the_same_bytes(tmp_path: Path):
    """Real processes: the command, its Ray, its driver actor."""
    arguments = ["clients.count=3", "clients.batch=2", "rounds=60", "zo.directions=2", "allocation.plan=cyclic",
                 "evaluation.every=20", "evaluation.examples=40", "task.train_examples=200",
                 "task.test_examples=40"]  # fmt: skip
    whole = run_in_process_of_its_own(*arguments, f"out={tmp_path / 'whole'}")
    assert whole.wait(timeout=200) == 0
    broken = tmp_path / "broken"
    run = run_in_process_of_its_own(*arguments, f"out={broken}")
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("round 6/60"):
            break
    (driver,) = [p for p in psutil.Process(run.pid).children(recursive=True) if is_driver(p)]
    os.kill(driver.pid, signal.SIGKILL)
    rest = run.stdout.read()
    assert run.wait(timeout=60) == 2
    last = rest.strip().splitlines()[-1]
    assert last.startswith("zorba_ray: the driver died") and f"--resume {broken}" in last, rest
    assert "Traceback" not in rest
    assert run_in_process_of_its_own("--resume", str(broken)).wait(timeout=200) == 0
    assert (broken / LEDGER).read_bytes() == (tmp_path / "whole" / LEDGER).read_bytes()


def run_in_process_of_its_own(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "zorba_ray.run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def is_driver(process: psutil.Process) -> bool:
    return any(part.startswith("ray::Driver") for part in process.cmdline())
