"""The API as a notebook uses it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import zorba_ray
from zorba_ray.commands import api
from zorba_ray.commands.api import arguments
from zorba_ray.commands.reference import PAGES
from zorba_ray.commands.result import Result
from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.summary import read_summary

TINY = {
    "clients": {"count": 3, "batch": 2}, "rounds": 3, "zo": {"directions": 2}, "allocation": {"plan": "cyclic"},
    "evaluation": {"every": 3, "examples": 16}, "task": {"train_examples": 100, "test_examples": 20},
}  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("api") / "run"
    return zorba_ray.run(out=out, backend="local", progress=False, **TINY)


def test_a_run_comes_back_as_an_object(result: Result) -> None:
    assert result.summary == read_summary(result.folder) and result.summary.rounds_done == 3
    assert isinstance(result.records, pa.Table)
    assert [result.table(kind).num_rows for kind in ("rounds", "clients", "evaluations")] == [3, 9, 2]
    assert result.plan.matrix.shape[0] == 3
    assert result.report.is_file()
    again = zorba_ray.open_run(result.folder)
    assert again.summary == result.summary and "3 of 3 rounds" in repr(again)


def test_the_model_is_replayed(result: Result) -> None:
    made = zorba_ray.replay(result)
    assert made.sha256 == result.summary.model_sha256
    first, last = result.model(0).blocks[0].vector, result.model().blocks[0].vector
    assert not np.array_equal(first.numpy(), last.numpy())


def test_the_ledgers_tools_answer_with_objects(result: Result) -> None:
    assert zorba_ray.verify(result).whole and zorba_ray.audit(result, client=1, round=2).same
    assert zorba_ray.diff(result, result.folder).alike
    found = zorba_ray.evaluate(result, rounds="best", evaluation={"examples": 8})
    assert found.examples == 8 and found.rounds == zorba_ray.replay(result, "best").rounds
    assert zorba_ray.replay(result, client=0).rounds == 2, "the last step comes with its next download"


def test_a_run_is_found_by_its_name(result: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(result.folder)
    monkeypatch.chdir(tmp_path)
    assert zorba_ray.open_run("mine").summary == result.summary
    with pytest.raises(ConfigError, match="nothing has no config"):
        zorba_ray.open_run("nothing")


def test_going_on_takes_what_the_command_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    zorba_ray.run(out=out, backend="local", **TINY)
    assert "round 3/3" in capsys.readouterr().out, "progress is shown"
    longer = zorba_ray.run(resume=out, backend="local", progress=False, rounds=4)
    assert longer.summary.rounds_done == 4 and not capsys.readouterr().out
    with pytest.raises(ConfigError, match="keeps its config"):
        zorba_ray.run(resume=out, zo={"mu": 1})
    with pytest.raises(ConfigError, match="either configs or resume"):
        zorba_ray.run("decomfl", resume=out)
    with pytest.raises(ConfigError, match="ray or local"):
        zorba_ray.run(backend="spark")  # type: ignore[arg-type]


def test_keys_mean_what_they_mean_on_the_command_line() -> None:
    keys = {"zo": {"mu": 1e-5, "shared": True}, "seeds": [0, 1], "model.path": Path("a/b"), "n": np.int64(3)}
    assert arguments(keys) == [
        "zo.mu=1e-05", "zo.shared=true", "seeds=[0, 1]", "model.path=a/b", "n=3",
    ]  # fmt: skip
    config = zorba_ray.load_config(
        "decomfl", task={"prompt": "'so' \"it\" is: {text}"}, clients={"budgets": {"explicit": ["1 GiB"] * 20}},
        fleet={"devices": [{"forward": 1e9, "budget": ""}]},
    )  # fmt: skip
    assert config.method == "decomfl" and config.task.prompt == "'so' \"it\" is: {text}"
    assert config.clients.budgets.explicit == ["1 GiB"] * 20 and config.fleet.devices[0].forward == 1e9
    assert zorba_ray.load_config(config) is config
    with pytest.raises(ConfigError, match=r"^no key is called 'zo\.moo'"):
        zorba_ray.load_config(zo={"moo": 1})
    with pytest.raises(ConfigError, match="stands alone"):
        zorba_ray.load_config(config, rounds=3)


def test_an_allocation_without_a_run() -> None:
    plan = zorba_ray.allocate(clients={"count": 4}, allocation={"plan": "one_each"})
    assert plan.matrix.sum(axis=1).tolist() == [1, 1, 1, 1]


def test_every_door_to_a_folder_asks_before_its_code_runs() -> None:
    """What they do with the answer: `tests/runs/test_folder.py`."""
    doors = {name: inspect.signature(getattr(api, name)).parameters for name in api.__all__}
    handed = {name for name, takes in doors.items() if {"run", "resume"} & takes.keys()}
    assert handed == {"run", "study", "open_run", "replay", "verify", "audit", "diff", "evaluate"}
    assert all(doors[name]["trust_code"].default is False for name in handed)


def test_the_reference_is_up_to_date() -> None:
    for name, page in PAGES.items():
        written = Path(__file__).parents[2] / "docs" / f"{name}.md"
        again = f"python -m zorba_ray.commands.reference {name} > docs/{name}.md"
        assert written.read_text(encoding="utf-8") == page(), again


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_that_is_up_is_used_and_left_up(local_ray: None, result: Result, tmp_path: Path) -> None:
    import ray

    node = ray.get_runtime_context().get_node_id()
    mine = ray.put("mine")
    made = zorba_ray.run(out=tmp_path / "run", progress=False, runtime={"actors": 2}, **TINY)
    assert made.summary.ledger_sha256 == result.summary.ledger_sha256, "by the same door, to the same bytes"
    assert ray.is_initialized() and ray.get_runtime_context().get_node_id() == node and ray.get(mine) == "mine"
    assert made.clients.count() + made.rounds.count() + made.evaluations.count() == made.records.num_rows


NOTEBOOK = """
import asyncio
async def cell():
    from zorba_ray import run
    result = run(out={out!r}, backend="local", rounds=2, clients=dict(count=2, batch=2), zo=dict(directions=1),
                 evaluation=dict(examples=8), allocation=dict(plan="cyclic"))
    return result.summary.rounds_done
print("done", asyncio.run(cell()))
"""


@pytest.mark.slow
def test_a_notebooks_running_event_loop_is_no_obstacle(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-c", NOTEBOOK.format(out=str(tmp_path / "run"))], capture_output=True, text=True, check=False
    )
    assert "done 2" in made.stdout and "round 2/2" in made.stdout, made.stderr
