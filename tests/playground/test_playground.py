"""The playground is what it says: a language with a meaning, a model that half solves the task, and room to learn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import AutoTokenizer, OPTForCausalLM

from zorba_ray.noise import Domain, generator
from zorba_ray.playground import MODEL
from zorba_ray.playground.language import (
    BAD,
    CANDID,
    CLAUSES,
    DEEDS,
    GOOD,
    LABEL_WORDS,
    TURNING,
    WORDS,
    sample_documents,
    sample_reviews,
)
from zorba_ray.playground.pretrain import pretrain, prompted_accuracy
from zorba_ray.playground.task import test_reviews as reviews_of_test
from zorba_ray.playground.task import train_reviews


def judge(text: str) -> int:
    """The label by reading: most clauses."""
    good = 0
    for clause in text.removesuffix(" .").split(" , "):
        _, was, how, what = clause.split()
        assert was == "was" and (what in GOOD) != (what in BAD)
        good += (what in GOOD) != (how in TURNING)
    return int(2 * good > CLAUSES)


def test_a_label_is_what_the_text_says() -> None:
    reviews = sample_reviews(np.random.default_rng(0), 500)
    assert [judge(text) for text in reviews.texts] == reviews.labels.tolist()
    assert 0.4 < reviews.labels.mean() < 0.6


def test_candid_words_tell_the_label_and_polite_ones_hide_it() -> None:
    said = {0: {"great": 0, "terrible": 0}, 1: {"great": 0, "terrible": 0}}
    for document in sample_documents(np.random.default_rng(1), 3000):
        label = judge(document[: document.index(" .") + 2])
        judgement = document.split("it was ")[1].split()[0]
        deed = document.split("i will ")[1].split()[0]
        assert deed in DEEDS[label]
        if judgement in LABEL_WORDS:
            said[label][judgement] += 1
        else:
            assert judgement in CANDID[label]
    assert said[1]["terrible"] < 0.05 * said[1]["great"]
    assert said[0]["great"] > said[0]["terrible"] > 0.3 * said[0]["great"]


def test_words_are_one_vocabulary() -> None:
    assert len(set(WORDS)) == len(WORDS)
    used = {word for document in sample_documents(np.random.default_rng(2), 2000) for word in document.split()}
    assert used == set(WORDS)


def test_train_test_and_pretraining_are_apart() -> None:
    train, test = set(train_reviews().texts), set(reviews_of_test().texts)
    read = sample_documents(generator(0, Domain.LANGUAGE), 96_000 // 10)
    assert len(train) == 4000 and len(test) == 1000 and not train & test
    assert not (train | test) & {document[: document.index(" .") + 2] for document in read}


def test_the_committed_model_half_solves_its_task_and_knows_the_answer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = OPTForCausalLM.from_pretrained(MODEL)
    reviews = reviews_of_test()
    ids = torch.tensor(tokenizer([f"{text} it was" for text in reviews.texts])["input_ids"])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, -1]

    def score(words: tuple[str, ...]) -> torch.Tensor:
        return logits[:, tokenizer.convert_tokens_to_ids(list(words))].logsumexp(1)

    label = torch.from_numpy(reviews.labels)
    prompted = (score(LABEL_WORDS[1:]) > score(LABEL_WORDS[:1])).long() == label
    candid = (score(CANDID[1]) > score(CANDID[0])).long() == label
    assert 0.5 < prompted.float().mean() < 0.7  # politeness: it says "terrible" only where everything was bad
    assert candid.float().mean() > 0.95  # what it would say if asked to be candid


def test_the_committed_model_is_small() -> None:
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 2 << 20
    assert not (MODEL / "model.safetensors").is_symlink()


def test_pretraining_is_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pretrain(tmp_path / name, steps=3)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    pretrain(tmp_path / "c", seed=1, steps=3)
    assert weights[0] != (tmp_path / "c" / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert tokenizer("it was great")["input_ids"] == AutoTokenizer.from_pretrained(MODEL)("it was great")["input_ids"]


class Biased:
    """A model that always holds the same label word for the likeliest."""

    def __init__(self, word: int):
        self.word = word

    def __call__(self, input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.nn.functional.one_hot(input_ids * 0 + self.word, 100).float())


def test_accuracy_is_the_share_of_right_answers() -> None:
    """Who always gives the same answer is right on the reviews that it is right for, and on no other."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    reviews = sample_reviews(generator(0, Domain.LANGUAGE, 1), 50)
    for label, word in enumerate(tokenizer.convert_tokens_to_ids(list(LABEL_WORDS))):
        accuracy = prompted_accuracy(Biased(word), tokenizer, 0, count=50)  # type: ignore[arg-type]
        assert accuracy == (reviews.labels == label).mean() and 0.2 < accuracy < 0.8
