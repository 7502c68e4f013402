"""Runs whose frozen weights are kept in few bits: they train, replay, and do not depend on grouping."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, RoundPlan
from zorba_ray.rounds.local import LocalBackend
from zorba_ray.runs.config import load_config
from zorba_ray.runs.replay import replayed_model
from zorba_ray.runs.simulate import Here, simulate

SMALL = ["rounds=2", "clients.count=4", "zo.directions=2", "task.train_examples=64", "task.test_examples=16",
         "evaluation.every=2",
         "clients.budgets.classes=[{name: all, share: 1, budget: 60 MiB}]"]  # fmt: skip


class Grouped(LocalBackend):
    """Asks the host for a few clients at a time."""

    groups: Sequence[slice] = (slice(None, None, 2), slice(1, None, 2))

    def probe(self, plan: RoundPlan, active: np.ndarray) -> list[Report]:
        reports: list[Report] = []
        for part in self.groups:
            clients = plan.participants[part]
            reports += self.host.probe(plan, clients, active[list(clients)])
        return sorted(reports, key=lambda report: report.client)


def run(config: Config, folder: Path, backend: type[LocalBackend] = LocalBackend) -> tuple[str, str, list[str]]:
    summary = simulate(config, folder, Here(backend=backend))
    return summary.model_sha256, summary.ledger_sha256, summary.notes


@pytest.mark.parametrize("trainable", ["lora", "full"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_run_on_few_bits_replays_and_does_not_depend_on_grouping(tmp_path: Path, kind: str, trainable: str) -> None:
    keys = [*SMALL, f"model.trainable={trainable}", f"model.frozen={kind}", "allocation.plan=one_each"]
    config = load_config(None, keys)
    digest, ledger, notes = run(config, tmp_path / "together")
    assert replayed_model(tmp_path / "together").sha256 == digest
    assert (digest, ledger) == run(config, tmp_path / "apart", Grouped)[:2]
    assert any(kind in note for note in notes)


def test_what_is_frozen_in_few_bits_changes_what_clients_see(tmp_path: Path) -> None:
    ledgers = {
        kind: run(load_config(None, [*SMALL, f"model.frozen={kind}", "allocation.plan=one_each"]), tmp_path / kind)[1]
        for kind in ("offload", "int8", "nf4")
    }
    assert len(set(ledgers.values())) == 3
