"""Tokenised examples and a task, as arrays that travel between processes without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zorba_ray.model.spec import HeadSpec

TaskKind = Literal["words", "prototype", "classifier", "language", "generation"]


@dataclass(frozen=True, eq=False)
class Examples:
    """n token sequences end to end: example i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: NDArray[np.int32]  # [total]
    offsets: NDArray[np.int64]  # [n + 1]
    labels: NDArray[np.int64]  # [n]
    groups: NDArray[np.int64] | None = None  # [n], the natural partition
    answers: NDArray[np.int64] | None = None  # [n], of generation: how many tokens at the end are the answer
    references: tuple[str, ...] | None = None  # [n], and what it may be, see tasks.answers; of test data

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> NDArray[np.int32]:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    def take(self, index: NDArray[np.int64]) -> Examples:
        tokens = [self[int(i)] for i in index]
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])]).astype(np.int64)
        groups = None if self.groups is None else self.groups[index]
        answers = None if self.answers is None else self.answers[index]
        references = None if self.references is None else tuple(self.references[int(i)] for i in index)
        return Examples(np.concatenate(tokens), offsets, self.labels[index], groups, answers, references)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked, and the data. `kind` says how hidden states become answers.

    words: a causal (or masked) model picks one of the label words at the answer position, which has `tail` tokens after
    it. prototype: an encoder's pooled text is compared with the label sentences. classifier: the model's own head.
    language: every token is predicted from those before it. generation: the tokens of the answer are, and at
    evaluation the answer is generated, at most `most` tokens of it, and judged as text by `score`.
    """

    name: str
    kind: TaskKind
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]  # words: token of each label word
    sentences: tuple[tuple[int, ...], ...]  # prototype: tokens of each label sentence
    pad_id: int
    tail: int
    train: Examples
    test: Examples
    in_words: bool = False  # a token is a word of the training text: the model has no tokenizer, or none is at hand
    most: int = 0
    end_id: int | None = None  # generation: the token that ends an answer
    score: str = ""
    tokenizer: Any = None  # generation: makes text of what was generated

    @property
    def max_tokens(self) -> int:
        """Length of the longest example."""
        return int(max(self.train.lengths.max(), self.test.lengths.max()))

    def head(self, loss: Literal["label_words", "vocabulary"] = "label_words") -> HeadSpec:
        """What the model must end in to be asked this."""
        from zorba_ray.model.spec import HeadSpec

        return HeadSpec("language" if self.kind == "generation" else self.kind, self.label_ids, self.sentences, loss)


def pack(
    sequences: Sequence[Sequence[int]], labels: NDArray[np.int64], groups: NDArray[np.int64] | None,
    answers: NDArray[np.int64] | None = None, references: Sequence[str] | None = None,
) -> Examples:
    offsets = np.zeros(len(sequences) + 1, np.int64)
    np.cumsum([len(ids) for ids in sequences], out=offsets[1:])
    tokens = np.fromiter((token for ids in sequences for token in ids), np.int32, count=int(offsets[-1]))
    return Examples(tokens, offsets, labels, groups, answers, None if references is None else tuple(references))
