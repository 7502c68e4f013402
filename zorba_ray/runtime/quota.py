"""Room for one of many runs on a cluster: a placement group, in which its driver and its client actors stand.

The first bundle is the driver's, on the node where the command is, so that the run's folder is there; it takes nothing
that others want. Each further one is room for a client actor, on any node. A driver knows by the group that it stands
in that it has a quota: a study's sweep makes such groups, and so does Ray Tune for its trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

NODE = "ray.io/node-id"  # the label by which Ray tells nodes apart
TOKEN = 0.001  # of the resource that every node has of its own: a bundle cannot ask for nothing


@dataclass(frozen=True)
class Wanted:
    """Bundles, and by which labels the node of each is chosen."""

    bundles: list[dict[str, float]]
    labels: list[dict[str, str]]


def wanted(cpus: float, gpus: float) -> Wanted:
    """The bundles of a run that takes so much, its driver on this process's node: one for every whole CPU, or for every
    GPU, which then has its share of the CPUs; a fraction of one is one bundle."""
    here = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    (address,) = [node["NodeManagerAddress"] for node in nodes if node["NodeID"] == here]
    count = max(1, math.floor(gpus or cpus))
    amounts = {"CPU": cpus / count, "GPU": gpus / count}
    each = {name: amount for name, amount in amounts.items() if amount > 0}
    return Wanted([{f"node:{address}": TOKEN}, *[each] * count], [{NODE: here}, *[{}] * count])


@dataclass(frozen=True)
class Quota:
    """What a run has of the cluster, bundle by bundle, the driver's (where it has one) left out."""

    group: PlacementGroup
    driver: bool = True

    @classmethod
    def mine(cls) -> Quota | None:
        """That of this process; None where nothing bounds the run but the cluster."""
        group = ray.util.get_current_placement_group()
        return cls(group) if group is not None and len(group.bundle_specs) > 1 else None

    def each(self, name: str) -> float:
        """Of CPUs or GPUs, what a bundle has."""
        return float(self.group.bundle_specs[-1].get(name, 0.0))

    def cpus(self) -> int:
        """Whole ones, at least one: an actor may make do with less."""
        return max(1, int(self.each("CPU") * self.count + 1e-6))

    @property
    def count(self) -> int:
        return len(self.group.bundle_specs) - self.driver

    def strategies(self) -> list[PlacementGroupSchedulingStrategy]:
        """How to stand in each bundle."""
        return [PlacementGroupSchedulingStrategy(self.group, i + self.driver) for i in range(self.count)]
