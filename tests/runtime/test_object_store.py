"""A model larger than Ray's object store: Ray keeps what does not fit on disk, and the run does not notice; where the
disk has no room either, it is one line."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
import transformers
from small_disk import small_disk

from zorba_ray.config.errors import ConfigError
from zorba_ray.model.load import EMBEDDED
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.simulate import Here, begin
from zorba_ray.runtime.driver import Driver

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STORE = 80 * 2**20


def start(**more: str) -> None:
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=STORE, log_to_driver=False,
             logging_level=logging.ERROR, **more)  # fmt: skip


@pytest.fixture
def small_store() -> Iterator[None]:
    start()
    yield
    ray.shutdown()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[None]:
    place = tmp_path / "spilled"
    with small_disk(place, "8m"):
        start(object_spilling_directory=str(place))
        yield
        ray.shutdown()


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """Of a run whose model is larger than the store."""
    torch.manual_seed(0)
    shape = transformers.OPTConfig(
        vocab_size=86, hidden_size=768, ffn_dim=3072, num_hidden_layers=4, num_attention_heads=12,
        word_embed_proj_dim=768, max_position_embeddings=64,
    )  # fmt: skip
    module = transformers.OPTForCausalLM(shape)
    assert sum(4 * p.numel() for p in module.parameters()) > STORE
    folder = tmp_path / "model"
    module.save_pretrained(folder)
    for file in EMBEDDED.glob("*token*"):
        shutil.copy(file, folder)
    return ["clients.count=2", "rounds=1", "zo.directions=1", "clients.batch=2", "evaluation.examples=4",
            "clients.budgets.classes=[{name: all, budget: 2 GiB}]", f"model.path={folder}"]  # fmt: skip


def test_a_model_for_which_there_is_no_room_at_all_is_one_line(
    full_disk: None, keys: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="neither Ray's object store nor the disk behind it") as caught:
        Driver(load_config(None, keys), str(tmp_path / "run"), resume=False).prepare()
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_model_larger_than_the_object_store_trains(small_store: None, keys: list[str], tmp_path: Path):
    driver = Driver(load_config(None, keys), str(tmp_path / "run"), resume=False)
    driver.prepare()
    base = driver.backend.pool.base
    assert ray.experimental.get_object_locations([base])[base]["object_size"] > STORE
    while driver.advance():
        pass
    driver.finish(False, "", 1.0)
    simulation = begin(load_config(None, keys), tmp_path / "here", False, Here())
    while simulation.advance():
        pass
    simulation.finish()
    assert (tmp_path / "run" / LEDGER).read_bytes() == (tmp_path / "here" / LEDGER).read_bytes()
