"""What files on this machine tell before anything starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.files import EMBEDDED, ModelFacts, check_complete, check_files, looks_local, model_facts
from zorba_ray.runs.config import load_config

FILES = ["task.name=files", "task.text=[text]"]


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_files(load_config(None, overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


def test_the_embedded_model_is_known_by_its_config() -> None:
    check_files(load_config(None))
    assert model_facts("embedded") == ModelFacts(6, 64)


def test_names_of_the_hub_are_told_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub = ["facebook/opt-125m", "gpt2", "SetFit/sst2", "nyu-mll/glue/rte:validation"]
    assert not any(looks_local(name) for name in hub)
    assert all(looks_local(name) for name in ["/data/x", "./x", "~/x", "a.csv", "b.jsonl.gz", "..", str(tmp_path)])
    (tmp_path / "facebook").mkdir()  # beside it a folder of that name: then the rest is missing
    assert looks_local("facebook/opt-125m")
    assert model_facts("owner/name") is None


def test_missing_data_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n")
    (tmp_path / "notes.doc").write_text("?")
    assert "no file /nowhere/a.csv" in refused(*FILES, "task.train=/nowhere/a.csv", "task.test=b.csv")
    assert "task.test: there is no file ./b" in refused(*FILES, f"task.train={tmp_path}/a.csv", "task.test=./b")
    assert "is none of .tsv" in refused(*FILES, f"task.train={tmp_path}/notes.doc", "task.test=./b")
    assert "participation.trace" in refused("participation.availability=trace", "participation.trace=t.csv")


def test_on_a_cluster_files_are_the_clusters_own() -> None:
    check_files(load_config(None, ["model.path=/data/model", "task.train=/data/a.csv", "runtime.address=auto"]))


def test_a_folder_that_holds_no_model_is_refused(model: Path) -> None:
    assert "no folder /nowhere/model" in refused("model.path=/nowhere/model")
    assert "is a file" in refused(f"model.path={model}/config.json")
    (model / "config.json").write_text("{")
    assert "cannot read config.json" in refused(f"model.path={model}")
    (model / "config.json").unlink()
    assert "no config.json" in refused(f"model.path={model}")


def test_a_model_without_tokenizer_or_weights_can_be_asked_of_but_not_run(model: Path) -> None:
    asked = load_config(None, [f"model.path={model}"])
    for path in model.glob("tokenizer*"):
        path.unlink()
    check_files(asked)
    with pytest.raises(ConfigError, match=r"lacks tokenizer\.json or .*nothing can run"):
        check_complete(asked.model)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    check_files(asked)
    with pytest.raises(ConfigError, match=r"lacks \*\.safetensors and tokenizer\.json"):
        check_complete(asked.model)


@pytest.mark.parametrize("left", [0, 4, 300, -1], ids=["empty", "in the length", "in the header", "in the data"])
def test_cut_off_weights_are_refused(model: Path, left: int) -> None:
    check_files(load_config(None, [f"model.path={model}"]))
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    assert "model.safetensors is cut off" in refused(f"model.path={model}")


@pytest.mark.parametrize("name", ["coverage_per_block", "gradient", "smoothness"])
def test_lists_go_by_the_models_blocks(name: str) -> None:
    assert f"allocation.{name} has 2 entries, the model has 6 blocks" in refused(f"allocation.{name}=[1, 2]")
    check_files(load_config(None, [f"allocation.{name}=[1, 2, 1, 1, 1, 1]"]))
    check_files(load_config(None, [f"allocation.{name}=[1, 1, 1, 1, 1, 1, 1]", "model.stem=true"]))  # told later


def test_an_adapter_is_narrower_than_its_matrix(model: Path) -> None:
    assert "64 wide" in refused("model.trainable=lora", "model.lora.rank=65")
    check_files(load_config(None, ["model.trainable=lora", "model.lora.rank=64"]))
    (model / "config.json").write_text(json.dumps({"n_layer": 3, "n_embd": 32}))
    assert model_facts(str(model)) == ModelFacts(3, 32)
