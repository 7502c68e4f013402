"""Methods with state, forks, local steps or a file of their own give the same ledger on actors."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from methods.test_methods_presets import example
from methods.zeroth_runs import config_of, ledger_of, run

from zorba_ray.config.schema import Config
from zorba_ray.runs.prepare import prepare
from zorba_ray.runtime.driver import Driver
from zorba_ray.runtime.launch import answer

pytestmark = pytest.mark.ray


def run_on_ray(config: Config, folder: Path) -> bytes:
    driver = ray.remote(Driver).options(num_cpus=0).remote(config, str(folder), False)
    answer(driver.prepare.remote())
    while answer(driver.advance.remote()):
        pass
    answer(driver.finish.remote(False, "", 1.0))
    ray.kill(driver)
    return ledger_of(folder)


@pytest.mark.parametrize("method", ["fedkseed", "fedspzo", "feedsign"])
def test_actors_write_the_oracles_ledger(local_ray: None, no_trace: None, tmp_path: Path, method: str) -> None:
    (tmp_path / "feedsign.py").write_text(example())
    more = {
        "fedkseed": ["zo.local_steps=4", "zo.directions=1", "fedkseed.size=16", "fedkseed.draw=pro"],
        "fedspzo": ["fedspzo.per_client=true", "zo.local_steps=2", "placement=per_client"],
        "feedsign": [f"method_file={tmp_path / 'feedsign.py'}"],
    }[method]
    config = config_of(f"method={method}", *more, "runtime.actors=2" if method != "fedspzo" else "seed=6")
    run(prepare(config), tmp_path / "here")
    assert run_on_ray(config, tmp_path / "ray") == ledger_of(tmp_path / "here")
