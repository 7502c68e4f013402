"""Presets of the methods, and a method of one's own, as the docs show it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from methods.zeroth_runs import config_of, ledger_of, run

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.ledger import read_ledger
from zorba_ray.methods import METHODS, has_gradients, method_of, register
from zorba_ray.methods.zorba import probes
from zorba_ray.records.schema import RoundRecord
from zorba_ray.records.stream import table
from zorba_ray.runs.config import ignored, load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "configs" / "methods").glob("*.yaml"))
ZEROTH = [path for path in PRESETS if not has_gradients(load_config(path))]
OWN = {"method", "zo", "fedspzo", "fedkseed", "step", "allocation", "model", "base"}


@pytest.mark.parametrize("path", ZEROTH, ids=lambda path: path.stem)
def test_a_preset_holds_only_keys_of_its_method_and_trains(path: Path, tmp_path: Path) -> None:
    keys = yaml.safe_load(path.read_text())
    assert set(keys) <= OWN and set(keys.get("step", {})) <= {"weights", "aggregate"}
    config = config_of("rounds=2", "clients.budgets.classes=[{name: all, budget: 16 MiB}]", presets=(path.stem,))
    assert not [line for line in ignored(config) if line.startswith(("fedspzo", "fedkseed", "zo", "model.lora"))]
    config.zo.local_steps = min(config.zo.local_steps, 4)
    if config.model.trainable == "lora":
        config.model.lora.targets = ["q_proj", "v_proj"]
    rounds = [event for event in run(prepare(config), tmp_path) if isinstance(event, RoundRecord)]
    assert len(rounds) == 2 and all(math.isfinite(each.loss) and each.step_norm > 0 for each in rounds)


def example(page: str = "methods") -> str:
    """The Python of a page of docs/."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    return text.partition("```python\n")[2].partition("```")[0]


def test_the_docs_method_of_ones_own_runs_and_is_counted(tmp_path: Path, no_trace: None) -> None:
    own = tmp_path / "feedsign.py"
    own.write_text(example())
    assert len(example().splitlines()) < 60
    overrides = "method=feedsign", f"method_file={own}", "rounds=3", "zo.directions=4", "zo.local_steps=2"
    config = config_of(*overrides)
    assert config.options.margin == 0.0
    run(prepare(config), tmp_path / "run")
    rows = [row for row in table(tmp_path / "run").to_pylist() if row["kind"] == "client"]
    assert {abs(value) for row in rows for value in row["scalars"]} == {1.0}
    assert all(row["bytes_up"] == 1 for row in rows)
    assert [row["bytes_down"] for row in rows if row["round"] == 1] == [2 * 6 * 8 // 8] * 4
    run(prepare(config), tmp_path / "again")
    assert ledger_of(tmp_path / "again") == ledger_of(tmp_path / "run")
    strict = config_of(*overrides, "feedsign.margin=1")  # never more than all votes: nothing moves
    run(prepare(strict), tmp_path / "strict")
    assert not any(entry.step.moved().any() for entry in read_ledger(tmp_path / "strict" / LEDGER).entries)
    with pytest.raises(ConfigError, match=r"feedsign\.margin takes a number"):
        config_of(*overrides, "feedsign.margin=much")


def test_a_config_has_no_keys_of_a_method_file_that_is_not_its_own(tmp_path: Path, no_trace: None) -> None:
    """In a study one arm may have a method of its own, and the other arms' configs are read where it is not known."""
    plain = to_yaml(config_of("rounds=2"))
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(example().replace('register("feedsign"', f'register("{name}"'))
        own = config_of(f"method_file={tmp_path / name}.py", f"method={name}")
        assert method_of(own).upload.__module__ == f"zorba_ray_own_{name}"  # type: ignore[union-attr]
    assert to_yaml(config_of("rounds=2")) == plain and "first" not in to_yaml(own)
    same = tmp_path / "third.py"
    same.write_text(example().replace('register("feedsign"', 'register("second"'))
    assert method_of(config_of(f"method_file={same}", "method=second")).upload.__module__ == "zorba_ray_own_third"  # type: ignore[union-attr]
    assert method_of(own).upload.__module__ == "zorba_ray_own_second"  # type: ignore[union-attr]


def test_the_docs_rule_of_averaging_leaves_the_farthest_out(tmp_path: Path, no_trace: None) -> None:
    own = tmp_path / "cautious.py"
    own.write_text(example("extend"))
    config = config_of("method=cautious", f"method_file={own}", "rounds=2", "zo.directions=3")
    run(prepare(config), tmp_path / "run")
    rows = [row for row in table(tmp_path / "run").to_pylist() if row["kind"] == "client" and row["round"] == 0]
    matrix = prepare(config).allocator.active_in(0)
    (first, _) = (entry.step for entry in read_ledger(tmp_path / "run" / LEDGER).entries)
    for block, c in enumerate(first.coefficients):
        mine = np.array([row["scalars"] for row in rows if matrix[row["client"], block]])
        for j, column in enumerate(mine.T if len(mine) else ()):
            kept = np.delete(column, np.abs(column - np.median(column)).argmax()) if len(column) > 2 else column
            assert c[j] == pytest.approx(kept.mean(), rel=1e-5, abs=1e-6)


def test_a_registered_name_is_a_method_of_the_config(no_trace: None) -> None:
    with pytest.raises(ConfigError, match="method cannot be 'mine'"):
        config_of("method=mine")
    register("mine", METHODS["zorba"])
    assert method_of(config_of("method=mine")).probes is probes  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file"),
        ("1 / 0", "fails with ZeroDivisionError"),
        ("from zorba_ray.methods import *\nregister('zorba', METHODS['zorba'])", "none of the project's own"),
        ("", "method cannot be 'mine'"),
    ],
)
def test_a_method_file_that_does_not_help_is_one_line(
    tmp_path: Path, no_trace: None, text: str | None, said: str
) -> None:
    own = tmp_path / "own.py"
    if text is not None:
        own.write_text(text)
    with pytest.raises(ConfigError) as caught:
        method_of(config_of("method=mine", f"method_file={own}"))
    assert said in str(caught.value) and "\n" not in str(caught.value)
