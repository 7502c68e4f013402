"""Steps made of tensors, and weights in few bits: the same ledger on Ray actors as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from runtime.test_equality import run_in_process, run_on_ray

from zorba_ray.runs.replay import replayed_model

ROOM = "clients.budgets.classes=[{name: all, share: 1, budget: 16 MiB}]"
RUNS = {
    "fedavg": ("method=fedavg", "fedavg.epochs=0", "step.lr=1e-3"),
    "fedit-exact": ("method=fedit", "fedit.epochs=0", "fedit.aggregate=exact", "model.trainable=lora", "step.lr=1e-2"),
    "qlora": ("model.trainable=lora", "model.frozen=nf4"),
    "frozen-int8": ("model.frozen=int8", "allocation.plan=one_each"),
}


@pytest.mark.parametrize("name", RUNS)
def test_actors_write_the_ledger_of_one_process(local_ray: None, tmp_path: Path, name: str) -> None:
    keys = (*RUNS[name], ROOM, "rounds=3")
    assert run_on_ray(tmp_path / "ray", *keys, "runtime.actors=2") == run_in_process(tmp_path / "here", *keys)
    assert replayed_model(tmp_path / "ray").sha256 == replayed_model(tmp_path / "here").sha256
