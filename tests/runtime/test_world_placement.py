"""The simulated world is the same wherever its clients' work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_ray import run_warm
from world.world_settings import EVERYTHING, SMALL, run

from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER


@pytest.mark.parametrize(
    "placement", [pytest.param("placement=per_client", marks=pytest.mark.slow), "runtime.actors=2"]
)
def test_late_lost_and_lying_clients_write_the_same_ledger_on_ray(local_ray: None, tmp_path: Path, placement: str):
    run(tmp_path / "here", EVERYTHING)
    config = load_config(None, [*SMALL, *EVERYTHING, placement])
    assert run_warm(config, tmp_path / "ray") == (tmp_path / "here" / LEDGER).read_bytes()
