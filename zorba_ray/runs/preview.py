"""What a config makes of its data before anything trains on it: prompts, labels, lengths, the partition, zero-shot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.messages import add_tallies, slices
from zorba_ray.runs.collapse import best_guess
from zorba_ray.runs.dealt import Dealt, dealt_to
from zorba_ray.runs.prepare import Base, build_host, read
from zorba_ray.tasks import Task, load_task
from zorba_ray.tasks.load import tokenizer_of

WHOLE = 1 << 30  # tokens: more than any text has


@dataclass(frozen=True)
class Answer:
    """A label, and what the model answers it by: a word's token, a sentence, or nothing but its number."""

    label: str
    said: str
    tokens: tuple[int, ...]
    train: int  # examples
    test: int


@dataclass(frozen=True)
class Cut:
    """Tokens an example, and what task.max_tokens leaves of them."""

    least: int
    median: int
    most: int
    shortened: int  # examples that are cut
    lost: float  # share of all tokens that this takes away


@dataclass(frozen=True)
class Preview:
    """`texts`: examples as the model is given them, with their labels."""

    task: Task
    texts: list[tuple[str, str]]
    answers: list[Answer]
    cut: Cut
    unknown: float  # share of the tokens that stand for words which the model's vocabulary lacks
    dealt: Dealt
    zero_shot: tuple[float, float]  # accuracy, loss, before round 0
    guess: tuple[float, float] | None  # of one answer for all


def preview(config: Config, examples: int) -> Preview:
    """Everything that a run reads, and one evaluation. So many examples are shown, the first of each label in turn."""
    base, _ = read(config)
    task = base.task
    tokenizer: Any = tokenizer_of(config.task, config.model)
    shown = first_of_each(task.train.labels, examples)
    texts = [(tokenizer.decode(task.train[i].tolist()), label_of(task, int(task.train.labels[i]))) for i in shown]
    return Preview(
        task=task, texts=texts, answers=answers(task, tokenizer), cut=cut(config, task),
        unknown=0.0 if tokenizer.unk_token_id is None else float((task.train.tokens == tokenizer.unk_token_id).mean()),
        dealt=dealt_to(task.labels, task.train.labels, base.shards), zero_shot=zero_shot(config, base),
        guess=best_guess(task),
    )  # fmt: skip


def label_of(task: Task, label: int) -> str:
    return task.labels[label] if task.labels else ""


def first_of_each(labels: NDArray[np.int64], count: int) -> list[int]:
    """`count` examples: the first of each label, then the second of each, and so on."""
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(starts, np.diff([*starts, len(labels)]))
    return [int(i) for i in np.lexsort((labels, rank))[:count]]


def answers(task: Task, tokenizer: Any) -> list[Answer]:
    train, test = (np.bincount(each.labels, minlength=len(task.labels)) for each in (task.train, task.test))
    found = []
    for number, label in enumerate(task.labels):
        tokens: tuple[int, ...] = ()
        said = ""
        if task.label_ids:
            tokens = (task.label_ids[number],)
            said = str(tokenizer.convert_ids_to_tokens(tokens[0]))
        elif task.sentences:
            tokens = task.sentences[number]
            said = str(tokenizer.decode(list(tokens), skip_special_tokens=True))
        found.append(Answer(label, said, tokens, int(train[number]), int(test[number])))
    return found


def cut(config: Config, task: Task) -> Cut:
    """By tokenising the training data once more, as long as the model can bear. Plain text is cut nowhere: it becomes
    windows."""
    kept = whole = task.train.lengths
    if task.kind != "language":
        section, clients = replace(config.task, max_tokens=WHOLE), config.clients
        again = load_task(section, config.model, config.seed, clients.partition_column, config.evaluation.data)
        whole = again.train.lengths
    lost = 1 - float(kept.sum()) / float(whole.sum())
    return Cut(int(whole.min()), int(np.median(whole)), int(whole.max()), int((whole > kept).sum()), lost)


def zero_shot(config: Config, base: Base) -> tuple[float, float]:
    """Accuracy and loss of the base model on what a run evaluates on, as its round 0 would say."""
    host = build_host(base, "cpu")
    total = add_tallies([host.evaluate([batch]) for batch in slices(len(base.task.test), config.evaluation.batch)])
    return total.correct / total.count, total.loss_sum / total.count
