"""Methods with state, forks, local steps or a file of their own give the same ledger on actors."""

from __future__ import annotations

from pathlib import Path

import pytest
from methods.test_methods_presets import example
from methods.zeroth_runs import config_of, ledger_of, run
from one_ray import run_warm

from zorba_ray.runs.prepare import prepare


@pytest.mark.parametrize("method", ["fedkseed", pytest.param("fedspzo", marks=pytest.mark.slow), "feedsign"])
def test_actors_write_the_oracles_ledger(local_ray: None, no_trace: None, tmp_path: Path, method: str) -> None:
    (tmp_path / "feedsign.py").write_text(example())
    more = {
        "fedkseed": ["zo.local_steps=4", "zo.directions=1", "fedkseed.size=16", "fedkseed.draw=pro"],
        "fedspzo": ["fedspzo.per_client=true", "zo.local_steps=2", "placement=per_client"],
        "feedsign": [f"method_file={tmp_path / 'feedsign.py'}"],
    }[method]
    config = config_of(f"method={method}", *more, "runtime.actors=2" if method != "fedspzo" else "seed=6")
    run(prepare(config), tmp_path / "here")
    assert run_warm(config, tmp_path / "ray") == ledger_of(tmp_path / "here")
