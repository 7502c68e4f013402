"""What must be said of a model so that any process can build it again from bare arrays. No torch, JSON-able."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from zorba_ray.config.schema import LoraConfig, ModelConfig

HeadKind = Literal["words", "language", "prototype", "classifier"]


@dataclass(frozen=True)
class HeadSpec:
    """How hidden states become a loss.

    words: cross-entropy at the answer position, over the label words or the whole vocabulary. language: the next token,
    at every wanted position. prototype: similarity of the pooled text to one learnt vector per label, begun as the
    label sentence's. classifier: the model's own classification head.
    """

    kind: HeadKind
    label_ids: tuple[int, ...] = ()  # words: token of each label word
    sentences: tuple[tuple[int, ...], ...] = ()  # prototype: token ids of each label sentence
    loss: Literal["label_words", "vocabulary"] = "label_words"

    @property
    def labels(self) -> int:
        return len(self.label_ids) or len(self.sentences)


@dataclass(frozen=True)
class ModelSpec:
    """A model without its weights: the transformers class and configuration, our keys, and the head."""

    auto_class: str  # e.g. "AutoModelForCausalLM"
    transformers_config: dict[str, Any]
    attention: str  # attention implementation, fixed so that processes agree to the bit
    code: str  # folder or hub name whose own code the model runs; empty: code of transformers
    config: ModelConfig
    head: HeadSpec
    seed: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelSpec:
        config = dict(data["config"])
        config["lora"] = LoraConfig(**config["lora"])
        head = dict(data["head"])
        head["label_ids"] = tuple(head["label_ids"])
        head["sentences"] = tuple(tuple(sentence) for sentence in head["sentences"])
        return ModelSpec(**{**data, "config": ModelConfig(**config), "head": HeadSpec(**head)})
