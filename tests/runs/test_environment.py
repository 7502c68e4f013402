"""What comes from the environment is used, and never written down: a run's folder holds the reference."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import pytest
from runs.toy_runs import open_run

from zorba_ray.commands.main import main
from zorba_ray.config.environment import FromEnvironment, written
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.files import EMBEDDED
from zorba_ray.config.load import to_yaml
from zorba_ray.report.run_page import write_report
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import CONFIG
from zorba_ray.runs.resume import keep_config, resumed_config

FILES = ["task.name=files", "task.text=[text]", "task.test=b.csv"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TOKEN": "s3://key:pa'ss@host", "PART": "aa", "SEED": "7"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("given", "value", "kept"), [
    ("${oc.env:TOKEN}/a.csv", "s3://key:pa'ss@host/a.csv", "${oc.env:TOKEN}/a.csv"),
    ("${task.label}/${oc.env:PART}", "y/aa", "y/${oc.env:PART}"),
    ("${oc.env:NOT_SET,${oc.env:PART}}", "aa", "${oc.env:NOT_SET,${oc.env:PART}}"),
    ("${oc.env:NOT_SET,'it''s {odd}'}".replace("''", "\\'"), "it's {odd}", "${oc.env:NOT_SET,'it\\'s {odd}'}"),
    ("\\${plain} ${oc.env:PART}", "${plain} aa", "\\${plain} ${oc.env:PART}"),
    ("${oc.decode:${oc.env:PART}}", "aa", "${oc.decode:${oc.env:PART}}"),
])  # fmt: skip
def test_text_from_the_environment_is_kept_as_its_reference(
    tmp_path: Path, given: str, value: str, kept: str
) -> None:
    config = load_config(None, [*FILES, f"task.train={given}", "task.test=${task.train}", "task.label=y"])
    assert config.task.train == config.task.test == value
    (tmp_path / "kept.yaml").write_text(to_yaml(config))
    again = load_config(tmp_path / "kept.yaml")
    assert again == config and to_yaml(again) == to_yaml(config)
    for twin in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), again):
        assert isinstance(twin.task.test, FromEnvironment) and written(twin).task.train == kept
        assert repr(value) not in repr(twin)


def test_numbers_decide_what_is_computed_and_are_kept() -> None:
    config = load_config(None, ["seed=${oc.env:SEED}", "name=run-${seed}"])
    assert "seed: 7\n" in to_yaml(config) and config.name == "run-7"


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^command line: task\.train: the environment variable NOT_SET is not set$"):
        load_config(None, [*FILES, "task.train=${oc.env:NOT_SET}"])


def test_printed_configs_show_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ([], ["--json"]):
        assert main(["run", *FILES, "task.train=${oc.env:TOKEN}", "--print-config", *flags]) == 0
        shown = capsys.readouterr().out
        assert "${oc.env:TOKEN}" in shown and "s3:" not in shown
    assert json.loads(shown)["task"]["train"] == "${oc.env:TOKEN}"


def test_a_runs_folder_goes_on_and_is_read_and_never_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = tmp_path / "secret-place"
    shutil.copytree(EMBEDDED, hidden / "model")
    monkeypatch.setenv("PLACE", str(hidden))
    keys = ["model.path=${oc.env:PLACE}/model", "clients.budgets.median=${oc.env:MEDIAN,2 MiB}"]
    folder = tmp_path / "run"
    begun = open_run(folder, *keys)
    begun.advance()
    begun.finish(interrupted=True)
    config = resumed_config(folder, ["rounds=6"])
    assert config.model.path == f"{hidden}/model"
    monkeypatch.delenv("PLACE")
    keep_config(config, folder)  # on another machine, as what follows
    assert "rounds: 6\n" in (folder / CONFIG).read_text()
    assert "${oc.env:PLACE}/model" in write_report(folder).read_text()
    for path in filter(Path.is_file, folder.rglob("*")):
        assert b"secret-place" not in path.read_bytes(), path
    with pytest.raises(ConfigError, match="the environment variable PLACE is not set"):
        resumed_config(folder)
