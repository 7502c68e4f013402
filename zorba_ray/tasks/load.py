"""From the config's task to tokenised examples: find the data, fill the prompt, tokenise with the model's tokenizer."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ModelConfig, TaskConfig
from zorba_ray.noise import Domain, generator
from zorba_ray.playground.task import test_reviews, train_reviews
from zorba_ray.tasks.answers import SEPARATOR
from zorba_ray.tasks.encode import Encoder, windows
from zorba_ray.tasks.examples import Examples, Task, TaskKind, pack
from zorba_ray.tasks.read import Table, as_ours, is_file, parse_hub, read_file, read_hub
from zorba_ray.tasks.registry import KNOWN, Hub, KnownTask

HELD_OUT_SEED = 0  # which examples are held out belongs to the task, not to the run
MOST_UNKNOWN = 0.5  # share of tokens outside the vocabulary beyond which model and text do not belong together


@dataclass(frozen=True)
class Rows:
    """One part of the data, before the tokenizer."""

    text: Table  # text columns only
    labels: NDArray[np.int64]
    groups: list[str] | None
    answers: list[str] | None = None  # to be generated

    def take(self, index: NDArray[np.int64]) -> Rows:
        text = {name: [column[i] for i in index] for name, column in self.text.items()}
        groups, answers = (
            None if each is None else [each[i] for i in index] for each in (self.groups, self.answers)
        )
        return Rows(text, self.labels[index], groups, answers)


def load_task(
    config: TaskConfig, model: ModelConfig, seed: int, group_column: str = "", evaluated: str = "test",
    asked: bool = False,
) -> Task:
    """The task as this model is asked it; `seed` draws the examples where the config wants fewer than there are.

    `group_column` names the natural partition's column; empty: the task's own where it has one. With
    `evaluated="validation"` the examples set aside from training stand in the place of the test data. Who only asks,
    and runs nothing, counts in words where the model's tokenizer is not at hand.
    """
    known = describe(config, group_column)
    (train, test), classes = find_rows(config, known)
    reader = read_with(model, known, train, asked)
    train, validation = training(config, train, seed)
    test = validation if evaluated == "validation" else subsample(test, config.test_examples, seed, 1)
    return tokenise(config, model, reader, known, classes, train, test)


def tokenizer_of(config: TaskConfig, model: ModelConfig) -> Any:
    """The tokenizer with which a model reads a task."""
    if not model.config:
        return open_tokenizer(model)
    known = describe(config, "")
    return read_with(model, known, find_rows(config, known)[0][0]).tokenizer


def training(config: TaskConfig, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """The rows that are trained on, and those that are set aside from them."""
    train, validation = set_aside(rows, config.validation_examples)
    return subsample(few_shot(train, config.per_class, seed), config.train_examples, seed, 0), validation


def set_aside(rows: Rows, count: int) -> tuple[Rows, Rows]:
    """The rows without `count` of them, drawn by a fixed seed, and those."""
    if 2 * count > len(rows.labels):
        raise ConfigError(f"task.validation_examples is {count}, more than half of the {len(rows.labels)} for training")
    order = generator(HELD_OUT_SEED, Domain.DATA, 3).permutation(len(rows.labels))
    return rows.take(np.sort(order[count:])), rows.take(np.sort(order[:count]))


def describe(config: TaskConfig, group_column: str) -> KnownTask:
    """The known task, with whatever the config says otherwise."""
    if config.name == "embedded" and (config.train or config.test):
        raise ConfigError("task.train and task.test: the embedded task makes its own data; set task.name=files")
    if config.name == "files":
        known = KnownTask(
            text=tuple(config.text), words=tuple(config.words), sentences=tuple(config.words), answer=config.answer,
            score=config.score,
        )  # fmt: skip
    elif config.name in KNOWN:
        known = KNOWN[config.name]
        if config.text:
            known = replace(known, text=tuple(config.text), optional=())
        if config.words:
            known = replace(known, words=tuple(config.words), sentences=tuple(config.words))
    else:
        raise ConfigError(f"task.name is {config.name!r}; known tasks are {', '.join(KNOWN)}, and 'files' for your own")
    if group_column:
        known = replace(known, group=group_column)
    prompt = config.prompt or (" ".join(f"{{{name}}}" for name in known.text) if config.text else known.prompt)
    for _, field, _, _ in string.Formatter().parse(prompt):
        if field is not None and field not in known.text:
            raise ConfigError(f"task.prompt: {{{field}}} is none of the text columns ({', '.join(known.text)})")
    return replace(known, prompt=prompt)


def find_rows(config: TaskConfig, known: KnownTask) -> tuple[tuple[Rows, Rows], tuple[str, ...]]:
    """Training and test rows, and the names of the classes."""
    if config.name == "embedded":
        made = train_reviews(config.train_examples + config.validation_examples), test_reviews()
        parts = [Rows({"text": reviews.texts}, reviews.labels, None) for reviews in made]
        return (parts[0], parts[1]), known.classes
    train = read(config.train, known.hub, "train", config.name)
    if not any(train.values()):
        raise ConfigError(f"task.train: {config.train or config.name} has no rows")
    if config.test or (known.hub is not None and not config.train):
        test = read(config.test, known.hub, "test", config.name)
    else:
        train, test = divide(train, known, config)
    values = label_values(train, config, known)
    found = (
        rows_of(train, known, config.label, values, "task.train"),
        rows_of(test, known, config.label, values, "task.test"),
    )
    return found, known.classes or values


def label_values(train: Table, config: TaskConfig, known: KnownTask) -> tuple[str, ...]:
    """What stands in the label column for each label, in their order; empty: plain text has none."""
    if known.answer:
        return ()
    if config.labels:
        if known.classes and len(config.labels) != len(known.classes):
            raise ConfigError(f"task.labels has {len(config.labels)} values, and {config.name} has "
                              f"{len(known.classes)} labels ({', '.join(known.classes)})")  # fmt: skip
        return tuple(config.labels)
    if config.name != "files":
        by_name = set(train.get(config.label, ())) - {known.unlabelled, ""} <= set(known.classes)
        return known.classes if by_name else tuple(str(c) for c in range(len(known.classes)))
    found = observed_classes(train, config.label)
    if not found:
        raise ConfigError(f"task.train: column {config.label!r} is empty in every row; task.label names that of the "
                          f"labels")  # fmt: skip
    if len(found) == 1:
        raise ConfigError(f"task.train: every row has the label {found[0]!r}; a task has two labels or more")
    return found


def read(source: str, hub: Hub | None, part: str, name: str) -> Table:
    key = f"task.{part}"
    if source:
        lists = hub.lists if hub is not None else ()
        table = read_file(source, key, lists) if is_file(source) else read_hub(*parse_hub(source, part), key, lists)
        return table if hub is None else as_ours(table, hub)
    if hub is None:
        raise ConfigError(f"{key} is empty, and {name} has no data set on the hub; give a local file")
    return read_hub(hub, hub.train if part == "train" else hub.test, key, hub.lists)


def divide(table: Table, known: KnownTask, config: TaskConfig) -> tuple[Table, Table]:
    """Training and test part of one table: by its own column, or a fixed share drawn by a fixed seed."""
    if known.split is not None:
        column, train, test = known.split
        values = np.array(require(table, column, "task.train"))
        parts = [np.flatnonzero(values == value) for value in (train, test)]
    elif known.held_out:
        count = len(next(iter(table.values()), []))
        order = generator(HELD_OUT_SEED, Domain.DATA, 2).permutation(count)
        held_out = min(known.held_out, count // 2)
        parts = [np.sort(order[held_out:]), np.sort(order[:held_out])]
    else:
        raise ConfigError(f"task.test is empty: {config.name} has its test data apart, so give both parts")
    return tuple({name: [column[i] for i in part] for name, column in table.items()} for part in parts)  # type: ignore[return-value]


def require(table: Table, column: str, key: str) -> list[str]:
    if column not in table:
        raise ConfigError(f"{key}: the data has no column {column!r} of texts or numbers; its columns are "
                          f"{', '.join(table)}")  # fmt: skip
    return table[column]


def observed_classes(table: Table, column: str) -> tuple[str, ...]:
    """The label values of the training data: whole numbers by size, words by the alphabet."""
    values = {value for value in require(table, column, "task.train") if value}
    numbers = all(value.lstrip("-").isdecimal() for value in values)
    return tuple(sorted(values, key=lambda value: (int(value), value) if numbers else (0, value)))


def rows_of(table: Table, known: KnownTask, label: str, classes: tuple[str, ...], key: str) -> Rows:
    if known.unlabelled and label in table:
        agreed = [i for i, value in enumerate(table[label]) if value != known.unlabelled]
        table = {name: [column[i] for i in agreed] for name, column in table.items()}
    count = len(next(iter(table.values()), []))
    if not count:
        raise ConfigError(f"{key}: the data has no rows")
    text = {}
    for name in known.text:
        missing = name in known.optional and name not in table
        text[name] = [""] * count if missing else require(table, name, key)
    groups = None
    if known.group:  # test data may be without
        groups = require(table, known.group, key) if key == "task.train" else table.get(known.group)
    if not classes:
        answers = require(table, known.answer, key) if known.answer else None
        if answers is not None and not all(map(str.strip, answers)):
            raise ConfigError(f"{key}: row {[bool(a.strip()) for a in answers].index(False) + 1} has no answer")
        return Rows(text, np.zeros(count, np.int64), groups, answers)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.empty(count, np.int64)
    for i, value in enumerate(require(table, label, key)):
        if value not in number:
            expected = ", ".join(classes[:8]) + (" …" if len(classes) > 8 else "")
            raise ConfigError(
                f"{key}: row {i + 1} has label {value!r}; the labels are {expected}; task.labels names others"
            )
        labels[i] = number[value]
    return Rows(text, labels, groups)


def few_shot(rows: Rows, most: int, seed: int) -> Rows:
    """`most` rows of each label, drawn by the seed; 0: all."""
    if not most:
        return rows
    order = generator(seed, Domain.DATA, 4).permutation(len(rows.labels))
    of = rows.labels[order]
    sizes = np.bincount(of)
    if (sizes[sizes > 0] < most).any():
        short = int(np.flatnonzero((sizes > 0) & (sizes < most))[0])
        raise ConfigError(f"task.per_class is {most}, but only {sizes[short]} rows have label number {short}")
    return rows.take(np.sort(np.concatenate([order[of == label][:most] for label in np.unique(of)])))


def subsample(rows: Rows, most: int, seed: int, part: int) -> Rows:
    if not 0 < most < len(rows.labels):
        return rows
    return rows.take(np.sort(generator(seed, Domain.DATA, part).permutation(len(rows.labels))[:most]))


def tokenise(
    config: TaskConfig, model: ModelConfig, reader: Reader, known: KnownTask, classes: tuple[str, ...], train: Rows,
    test: Rows,
) -> Task:
    tokenizer, architecture, positions = reader.tokenizer, reader.architecture, reader.positions
    kind = kind_of(architecture, bool(classes), bool(known.answer))
    open_ended = kind in ("words", "language", "generation")
    masked = kind == "words" and architecture.endswith("ForMaskedLM")
    limit = min(config.max_tokens, int(tokenizer.model_max_length), positions)
    if kind == "generation":
        if config.generate >= limit:
            raise ConfigError(f"task.generate is {config.generate}, and all of an example may have {limit} tokens; "
                              f"raise task.max_tokens or lower it")  # fmt: skip
        limit -= config.generate
    prompted = kind in ("words", "generation") or config.prompt
    prompt = known.prompt if prompted else " ".join(f"{{{name}}}" for name in known.text)
    encoder = Encoder(tokenizer, prompt, known.text, limit, masked=masked, causal=open_ended and not masked)
    label_ids: tuple[int, ...] = ()
    sentences: tuple[tuple[int, ...], ...] = ()
    if kind == "words":
        label_ids = encoder.label_tokens(one_each(known.words, classes, config.name, "label words"))
    elif kind == "prototype":
        chosen = one_each(known.sentences, classes, config.name, "label sentences")
        sentences = tuple(tuple(ids) for ids in tokenizer(list(chosen))["input_ids"])

    names = sorted(set(train.groups)) if train.groups is not None else []
    number = {name: i for i, name in enumerate(names)}

    def examples(rows: Rows) -> Examples:
        if kind == "language":
            runs = windows([ids for name in known.text for ids in encoder.tokens(rows.text[name])], limit)
            return pack(runs, np.zeros(len(runs), np.int64), None)
        groups = None if rows.groups is None else np.array([number.get(name, -1) for name in rows.groups], np.int64)
        prompts = encoder.encode(rows.text)
        if rows.answers is None:
            return pack(prompts, rows.labels, groups)
        trained = encoder.answers([answer.partition(SEPARATOR)[0] for answer in rows.answers], config.generate)
        whole, counts = [a + b for a, b in zip(prompts, trained, strict=True)], np.array([len(ids) for ids in trained])
        return pack(whole, rows.labels, groups, counts, rows.answers)

    found = (replace(examples(train), references=None), examples(test))
    refuse_unknown(found[0], tokenizer.unk_token_id, model.called)
    return Task(
        name=config.name,
        kind=kind,
        labels=classes,
        label_ids=label_ids,
        sentences=sentences,
        pad_id=next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0),
        tail=encoder.tail(),
        train=found[0],
        test=found[1],
        in_words=reader.in_words,
        most=config.generate,
        end_id=tokenizer.eos_token_id,
        score=known.score if kind == "generation" else "",
        tokenizer=tokenizer if kind == "generation" else None,
    )


@dataclass(frozen=True)
class Reader:
    """What of a model decides how texts become tokens."""

    tokenizer: Any
    architecture: str
    positions: int  # the most that it has
    in_words: bool  # the tokenizer was made from the task's words


def read_with(model: ModelConfig, known: KnownTask, train: Rows, asked: bool = False) -> Reader:
    """The model's own tokenizer, or one of words where it has none or, of who only asks, none is at hand."""
    from zorba_ray.model import open_config
    from zorba_ray.tasks.vocabulary import word_tokenizer

    config = open_config(model)
    architecture = (getattr(config, "architectures", None) or [""])[0]
    positions = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
    own: Any = None
    if not model.config:
        try:
            own = open_tokenizer(model)
        except ConfigError:
            if not asked:
                raise
    if own is not None:
        return Reader(own, architecture, positions, in_words=False)
    first = [known.prompt, *known.words, *known.sentences]
    columns = [*(train.text[name] for name in known.text), train.answers or []]
    texts = (text for column in columns for text in column)
    return Reader(word_tokenizer(texts, first, config), architecture, positions, in_words=True)


def open_tokenizer(model: ModelConfig) -> Any:
    """The tokenizer that comes with a model."""
    from transformers import AutoTokenizer

    from zorba_ray.model import model_path, source, unopened

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_path(model), **source(model))
    except (OSError, ValueError) as error:
        raise unopened(model, "open the tokenizer of", error) from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes up where there are no files
        raise ConfigError(f"model.path: {model.path!r} has no tokenizer (tokenizer.json or the like)")
    return tokenizer


def kind_of(architecture: str, labelled: bool, answered: bool = False) -> TaskKind:
    """How a model of this architecture answers."""
    causal = architecture.endswith(("ForCausalLM", "LMHeadModel"))
    if not labelled:
        if not causal:
            what = "an answer that is generated" if answered else "plain text"
            raise ConfigError(f"task.name: {what} asks for a causal language model, not {architecture}")
        return "generation" if answered else "language"
    if architecture.endswith("ForSequenceClassification"):
        return "classifier"
    return "words" if causal or architecture.endswith("ForMaskedLM") else "prototype"


def one_each(words: Sequence[str], classes: tuple[str, ...], name: str, what: str) -> Sequence[str]:
    if len(words) != len(classes):
        raise ConfigError(
            f"task.words: {name} has {len(classes)} labels ({', '.join(classes[:8])}) and this model takes {what}, "
            f"one per label in this order; {len(words)} are given"
        )
    return words


def refuse_unknown(examples: Examples, unknown: int | None, path: str) -> None:
    if unknown is None or not len(examples.tokens):
        return
    share = float((examples.tokens == unknown).mean())
    if share > MOST_UNKNOWN:
        raise ConfigError(
            f"task.name: {share:.0%} of the text's tokens are unknown to the model {path!r}; "
            "take a model that knows the language, or another task"
        )
