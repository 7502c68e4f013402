"""The known tasks: columns, prompts, label words for causal models, label sentences for encoders, and hub names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zorba_ray.playground import language


@dataclass(frozen=True)
class Hub:
    """Where `datasets` finds a task, and where its columns and labels differ from ours."""

    path: str
    config: str = ""
    revision: str = ""
    train: str = "train"
    test: str = "test"
    columns: Mapping[str, str] = field(default_factory=dict)  # our column → theirs
    labels: Mapping[str, str] = field(default_factory=dict)  # their label → ours


@dataclass(frozen=True)
class KnownTask:
    """What we know of a task. Its labels are 0 … C − 1, the order of `classes`, `words` and `sentences`."""

    classes: tuple[str, ...] = ()  # none: plain text, for language modelling
    text: tuple[str, ...] = ("text",)
    optional: tuple[str, ...] = ()  # of the text columns, those that some copies of the data lack
    prompt: str = "{text}"
    words: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    hub: Hub | None = None
    split: tuple[str, str, str] | None = None  # column that tells train from test, and its two values
    held_out: int = 0  # test examples drawn from the training data where there is no test data
    group: str = ""  # column of the natural partition


KNOWN: dict[str, KnownTask] = {
    "embedded": KnownTask(
        classes=language.LABELS,
        prompt=language.PROMPT,
        words=language.LABEL_WORDS,
        sentences=("The stay was terrible.", "The stay was great."),
    ),
    "sst2": KnownTask(
        classes=("negative", "positive"),
        prompt="{text} It was",
        words=("terrible", "great"),
        sentences=("This movie is terrible.", "This movie is great."),
        hub=Hub("SetFit/sst2", test="validation"),
    ),
    "ag_news": KnownTask(
        classes=("world", "sports", "business", "technology"),
        text=("title", "text"),
        optional=("title",),  # the hub's copy has title and text in one column
        prompt="{title} {text} Topic:",
        words=("World", "Sports", "Business", "Technology"),
        sentences=(
            "News about world politics.",
            "News about sports.",
            "News about business.",
            "News about science and technology.",
        ),
        hub=Hub("fancyzhx/ag_news"),
        held_out=1600,
    ),
    "trec": KnownTask(
        classes=("description", "entity", "abbreviation", "human", "location", "number"),
        prompt="Question: {text} Type:",
        words=("Description", "Entity", "Expression", "Human", "Location", "Number"),
        sentences=(
            "A question about a description or a reason.",
            "A question about a thing, an animal or a product.",
            "A question about an abbreviation.",
            "A question about a person.",
            "A question about a place.",
            "A question about a number or a date.",
        ),
        hub=Hub(
            "CogComp/trec",
            revision="refs/convert/parquet",
            columns={"label": "coarse_label"},
            labels={"0": "2", "1": "1", "2": "0", "3": "3", "4": "4", "5": "5"},
        ),
    ),
    "rte": KnownTask(
        classes=("entailment", "not entailment"),
        text=("premise", "hypothesis"),
        prompt='{premise}\nDoes this mean that "{hypothesis}" is true? Yes or No?\n',
        words=("Yes", "No"),
        hub=Hub(
            "nyu-mll/glue",
            config="rte",
            test="validation",
            columns={"premise": "sentence1", "hypothesis": "sentence2"},
        ),
    ),
    "amazon": KnownTask(
        classes=("negative", "positive"),
        prompt="{text} It was",
        words=("terrible", "great"),
        sentences=("This product is terrible.", "This product is great."),
        split=("split", "train", "dev"),
        group="domain",
    ),
    "text": KnownTask(),
}
