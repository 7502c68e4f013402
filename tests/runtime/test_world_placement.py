"""The simulated world is the same wherever its clients' work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from world.world_settings import EVERYTHING, SMALL, run

from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runtime.driver import Driver
from zorba_ray.runtime.launch import answer


@pytest.mark.ray
@pytest.mark.parametrize("placement", ["placement=per_client", "runtime.actors=2"])
def test_late_lost_and_lying_clients_write_the_same_ledger_on_ray(local_ray: None, tmp_path: Path, placement: str):
    run(tmp_path / "here", EVERYTHING)
    config = load_config(None, [*SMALL, *EVERYTHING, placement])
    driver = ray.remote(Driver).options(num_cpus=0).remote(config, str(tmp_path / "ray"), False)
    answer(driver.prepare.remote())
    while answer(driver.advance.remote()):
        pass
    answer(driver.finish.remote(False, "", 1.0))
    ray.kill(driver)
    assert (tmp_path / "ray" / LEDGER).read_bytes() == (tmp_path / "here" / LEDGER).read_bytes()
