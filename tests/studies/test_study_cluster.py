"""A study on a cluster of two nodes, of which one dies; runs that share a Ray with others."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from zorba_ray.config.errors import ConfigError
from zorba_ray.records.stream import table
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.simulate import simulate
from zorba_ray.studies import execute
from zorba_ray.studies.cells import cells, final_runs
from zorba_ray.studies.execute import Sitting, room, slots
from zorba_ray.studies.spec import Arm, Study, Tuning
from zorba_ray.studies.store import rounds_done

pytestmark = [pytest.mark.ray, pytest.mark.slow]

QUICK = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
STUDY = Study(
    set=["clients.count=4", "zo.directions=2", "evaluation.every=1000", "evaluation.examples=30", "rounds=60",
         "task.validation_examples=40"],
    arms=[Arm(name="one"), Arm(name="own noise", set=["zo.shared=false"])], seeds=[0], tuning=Tuning([1.0]),
)  # fmt: skip


@pytest.fixture
def two_nodes() -> Iterator[Cluster]:
    """A CPU each; this process is on the head."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK}
    )
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    while ray.cluster_resources().get("CPU") != 2:
        time.sleep(0.1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


class Killer:
    """Watches, and takes the second node away once the run whose client is there is well under way."""

    def __init__(self, cluster: Cluster, folder: Path):
        self.cluster, self.folder = cluster, folder
        (self.node,) = cluster.worker_nodes
        self.sitting = Sitting(STUDY, folder, self)
        self.seen: dict[Path, list[float]] = {}  # the seconds of its rounds when the node went

    def under_way(self, runs: list[Any]) -> None:
        for seat in [] if self.seen else self.sitting.seats:
            where = ray.util.placement_group_table(seat.group)["bundles_to_node_id"]
            if where[1] == self.node.node_id and seat.run and rounds_done(self.folder / seat.run.folder) > 5:
                self.cluster.remove_node(self.node, allow_graceful=False)
                self.seen = {seat.run.folder: seconds(self.folder / seat.run.folder)}

    def done(self, run: Any, outcome: Any, again: bool) -> None:
        assert (outcome.status, again) == ("ok", False), outcome.message

    def chosen(self, cell: Any, choice: Any) -> None: ...


def seconds(folder: Path) -> list[float]:
    rows = table(folder).to_pylist()
    return [row["seconds"] for row in rows if row["kind"] == "round"]


def test_two_nodes_share_a_study_and_one_that_dies_loses_nothing(
    two_nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "GLANCE", 0.1)
    assert slots(STUDY) == room(STUDY) == 2
    every = cells(STUDY)
    killer = Killer(two_nodes, tmp_path / "study")
    killer.sitting.carry_out(every)
    assert killer.seen and ray.cluster_resources()["CPU"] == 1
    for cell in every:
        (run,) = final_runs(STUDY, cell, cell.rates[0])
        folder = tmp_path / "study" / run.folder
        simulate(run.config, tmp_path / "alone" / run.folder)
        assert (folder / LEDGER).read_bytes() == (tmp_path / "alone" / run.folder / LEDGER).read_bytes()
        before = killer.seen.get(run.folder, [])
        assert seconds(folder)[: len(before)] == before, "what was done is not done again"
    assert not ray.util.list_named_actors(all_namespaces=True)
    with pytest.raises(ConfigError, match="a run takes 2 CPUs and 0 GPUs, and the whole cluster has 1 and 0"):
        slots(Study(cpus=2.0))
