"""Known tasks on the real data, with the tokenizers of real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ModelConfig, TaskConfig
from zorba_ray.tasks import load_task

pytestmark = pytest.mark.real


def config(shared: Path, name: str, train: str, test: str = "", **keys: int) -> TaskConfig:
    path = {part: str(shared / "data" / f"{part}.tsv.gz") for part in (train, test) if part}
    return TaskConfig(name=name, train=path[train], test=path.get(test, ""), **keys)  # type: ignore[arg-type]


@pytest.fixture
def encoder(shared: Path) -> ModelConfig:
    return ModelConfig(path=str(shared / "models" / "minilm-l6-fp16"))


@pytest.mark.parametrize(
    ("name", "train", "test", "sizes", "classes"),
    [
        ("sst2", "sst2_train_sentences", "sst2_dev", (6920, 872), 2),
        ("ag_news", "ag_news_test", "", (6000, 1600), 4),
        ("trec", "trec_train", "trec_test", (5452, 500), 6),
    ],
)
def test_a_known_task_is_whole(
    shared: Path, encoder: ModelConfig, name: str, train: str, test: str, sizes: tuple[int, int], classes: int
) -> None:
    task = load_task(config(shared, name, train, test), encoder, 0)
    assert (task.kind, len(task.sentences)) == ("prototype", classes)
    assert (len(task.train), len(task.test)) == sizes
    for part in (task.train, task.test):
        assert np.unique(part.labels).tolist() == list(range(classes))
        assert (part.tokens[part.offsets[:-1]] == 101).all()  # [CLS]
        assert (part.tokens[part.offsets[1:] - 1] == 102).all()  # [SEP], also where the text was cut
        assert part.lengths.max() <= 128


def test_reviews_of_five_domains_are_a_natural_partition(shared: Path, encoder: ModelConfig) -> None:
    task = load_task(config(shared, "amazon", "amazon_airline_5domains", train_examples=500, max_tokens=64), encoder, 0)
    assert task.train.groups is not None and np.unique(task.train.groups).tolist() == [0, 1, 2, 3, 4]
    assert (task.train.lengths.max(), len(task.test)) == (64, 1500)


def test_pairs_have_no_label_sentences(shared: Path, encoder: ModelConfig) -> None:
    with pytest.raises(ConfigError, match=r"rte has 2 labels .* takes label sentences"):
        load_task(config(shared, "rte", "rte_train", "rte_dev"), encoder, 0)


def test_a_word_of_several_tokens_is_named_with_its_pieces(shared: Path) -> None:
    model = ModelConfig(path=str(shared / "models" / "stories260K-llama"))
    with pytest.raises(ConfigError, match=r"'terrible' after .* is \['▁.*one token"):
        load_task(config(shared, "sst2", "sst2_train_sentences", "sst2_dev"), model, 0)


def test_a_llama_prompt_begins_with_its_token_and_ends_with_the_prompt(shared: Path) -> None:
    model = ModelConfig(path=str(shared / "models" / "stories260K-llama"))
    task_config = config(shared, "sst2", "sst2_train_sentences", "sst2_dev", max_tokens=48)
    task_config.words = ["happy", "very"]
    task = load_task(task_config, model, 0)
    ends = {tuple(task.test[i][-2:]) for i in range(len(task.test))}
    assert (task.kind, len(ends)) == ("words", 1)
    assert (task.test.tokens[task.test.offsets[:-1]] == 1).all()
    assert task.test.lengths.max() == 48
