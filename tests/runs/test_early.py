"""What is wrong is said before torch is imported, Ray is started or a hub is waited for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zorba_ray.config import hub
from zorba_ray.config.errors import ConfigError
from zorba_ray.model import open_config
from zorba_ray.runs.config import load_config
from zorba_ray.runs.early import check_early
from zorba_ray.runs.new import run_folder
from zorba_ray.runs.summary import read_summary
from zorba_ray.tasks.read import read_hub
from zorba_ray.tasks.registry import Hub


def refused(*keys: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_early(load_config(None, keys))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A hub to which every connection is refused; the folder where something of it may lie."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub.trouble.cache_clear()
    yield tmp_path
    hub.trouble.cache_clear()


@pytest.mark.parametrize(("keys", "said"), [
    (["method=fedspzo", "fedspzo.at=6"], "fedspzo.at is 6, but the model has 6 blocks"),
    (["allocation.coverage_per_block=[1, 2]"], "the model has 6 blocks"),
    (["task.name=dmbi"], "known tasks are"),
    (["task.name=amazon"], "amazon has no data set on the hub"),
    (["task.name=sst2", "task.train=x.csv"], "there is no file x.csv"),
    (["task.train=x.csv", "runtime.address=auto"], "the embedded task makes its own data"),
    (["task.text=[title]", "task.prompt={title}", "task.name=sst2", "clients.count=1"], "SetFit/sst2"),
    (["clients.count=4001"], "only 4000 training examples"),
    (["task.train_examples=100", "clients.count=101"], "only 100 training examples"),
    (["task.validation_examples=2001"], "more than half of the"),
    (["clients.partition=natural", "clients.partition_column=user"], "the embedded task has none"),
    (["fleet.devices=[{forward: 1e12, budget: huge}]"], "no budget class is called 'huge'"),
])  # fmt: skip
def test_mistakes_of_the_config_are_said_early(keys: list[str], said: str, out_of_reach: Path) -> None:
    assert said in refused(*keys)


@pytest.mark.parametrize("keys", [
    [], ["method=fedspzo", "fedspzo.at=5"], ["method=fedspzo", "fedspzo.at=6", "model.stem=true"],
    ["clients.count=4000"], ["task.train_examples=1000000", "clients.count=5000"],
    ["model.path=owner/name", "task.name=sst2", "runtime.address=auto"],
])  # fmt: skip
def test_what_can_be_is_not_refused(keys: list[str], out_of_reach: Path) -> None:
    check_early(load_config(None, keys))


def test_a_hub_out_of_reach_is_one_line_that_says_what_to_bring(out_of_reach: Path) -> None:
    config = load_config(None, ["model.path=owner/name"])
    message = refused("model.path=owner/name")
    assert message.startswith("model.path: there is no folder owner/name, and the hub cannot be reached from here (")
    assert "*.safetensors" in message and "hf download owner/name" in message
    with pytest.raises(ConfigError) as later:
        open_config(config.model)
    assert str(later.value) == message
    assert "columns premise, hypothesis, label" in refused("task.name=rte")
    with pytest.raises(ConfigError, match=r"^task\.train: there is no file SetFit/sst2, and the hub cannot be reached"):
        read_hub(Hub("SetFit/sst2"), "train", "task.train")
    (out_of_reach / "models--owner--name").mkdir()  # something was fetched: whether it will do is not known here
    check_early(config)


def test_a_switched_off_hub_is_not_asked(out_of_reach: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in refused("model.path=gpt2")


def test_files_that_say_nothing_are_said_early(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "trace.csv").write_text("client,from,to\n0,x,3\n")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n")
    files = ["task.name=files", "task.text=[text]", f"task.test={tmp_path}/empty"]
    assert "empty has no file of .parquet" in refused(*files, f"task.train={tmp_path}/empty")
    trace = f"participation.trace={tmp_path}/trace.csv"
    assert "line 2: client, from and to must be numbers" in refused("participation.availability=trace", trace)
    with pytest.raises(ConfigError, match=r"ends\.py fails with SystemExit: 3"):
        load_config(None, [f"method_file={tmp_path}/ends.py"])
    for name in ("trace.csv", "trace.csv/below"):
        with pytest.raises(ConfigError, match=r"trace\.csv is a file; it must be a folder"):
            run_folder(load_config(None, [f"out={tmp_path}/{name}"]))
    with pytest.raises(ConfigError, match=r"has no summary\.json"):
        read_summary(tmp_path / "trace.csv")


def test_nothing_heavy_is_imported_to_say_so() -> None:
    code = (
        "import sys\n"
        "from zorba_ray.runs.config import load_config\nfrom zorba_ray.runs.early import check_early\n"
        "check_early(load_config(None))\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'ray', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
