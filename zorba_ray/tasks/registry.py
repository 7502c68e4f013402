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

    @property
    def lists(self) -> list[str]:
        """Of their columns, those that are a list within a record."""
        return [theirs for theirs in self.columns.values() if "." in theirs]


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
    answer: str = ""  # column of what is to be generated; then there are no classes
    score: str = "f1"  # and how it is judged, a name of tasks.answers.SCORES
    unlabelled: str = ""  # label of rows that nobody agreed on, which are left out


GREAT = ("terrible", "great")
PAIR = ("premise", "hypothesis")
INFER = 'Suppose {premise} Can we infer that "{hypothesis}"? Yes, No, or Maybe?\n'
GLUE, SUPERGLUE = "nyu-mll/glue", "aps/super_glue"
PARQUET = "refs/convert/parquet"  # the branch without a script

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
        words=GREAT,
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
            revision=PARQUET,
            columns={"label": "coarse_label"},
            labels={"0": "2", "1": "1", "2": "0", "3": "3", "4": "4", "5": "5"},
        ),
    ),
    "rte": KnownTask(
        classes=("entailment", "not entailment"),
        text=PAIR,
        prompt='{premise}\nDoes this mean that "{hypothesis}" is true? Yes or No?\n',
        words=("Yes", "No"),
        hub=Hub(
            GLUE,
            config="rte",
            test="validation",
            columns={"premise": "sentence1", "hypothesis": "sentence2"},
        ),
    ),
    "snli": KnownTask(
        classes=("entailment", "neutral", "contradiction"),
        text=PAIR,
        prompt=INFER,
        words=("Yes", "Maybe", "No"),
        hub=Hub("stanfordnlp/snli"),
        unlabelled="-1",
    ),
    "mnli": KnownTask(
        classes=("entailment", "neutral", "contradiction"),
        text=PAIR,
        prompt=INFER,
        words=("Yes", "Maybe", "No"),
        hub=Hub(GLUE, config="mnli", test="validation_matched"),
    ),
    "cb": KnownTask(
        classes=("entailment", "contradiction", "neutral"),
        text=PAIR,
        prompt=INFER,
        words=("Yes", "No", "Maybe"),
        hub=Hub(SUPERGLUE, config="cb", revision=PARQUET, test="validation"),
    ),
    "boolq": KnownTask(
        classes=("no", "yes"),
        text=("passage", "question"),
        prompt="{passage} {question}?\n",
        words=("No", "Yes"),
        hub=Hub(
            "google/boolq", test="validation", columns={"label": "answer"}, labels={"False": "0", "True": "1"}
        ),
    ),
    "wic": KnownTask(
        classes=("another meaning", "the same meaning"),
        text=("word", "sentence1", "sentence2"),
        prompt='Does the word "{word}" have the same meaning in these two sentences? Yes, No?\n{sentence1}\n'
        "{sentence2}\n",
        words=("No", "Yes"),
        hub=Hub(SUPERGLUE, config="wic", revision=PARQUET, test="validation"),
    ),
    "mrpc": KnownTask(
        classes=("not equivalent", "equivalent"),
        text=("sentence1", "sentence2"),
        prompt="Do the following two sentences mean the same thing? Yes or No?\nSentence 1: {sentence1}\n"
        "Sentence 2: {sentence2}\n",
        words=("No", "Yes"),
        hub=Hub(GLUE, config="mrpc", test="validation"),
    ),
    "cola": KnownTask(
        classes=("unacceptable", "acceptable"),
        prompt="{text} Is this sentence grammatical? Yes or No?\n",
        words=("No", "Yes"),
        hub=Hub(GLUE, config="cola", test="validation", columns={"text": "sentence"}),
    ),
    "yelp": KnownTask(
        classes=("negative", "positive"),
        prompt="{text} It was",
        words=GREAT,
        sentences=("This place is terrible.", "This place is great."),
        hub=Hub("fancyzhx/yelp_polarity"),
    ),
    "imdb": KnownTask(
        classes=("negative", "positive"),
        prompt="{text} It was",
        words=GREAT,
        sentences=("This movie is terrible.", "This movie is great."),
        hub=Hub("stanfordnlp/imdb"),
    ),
    "amazon": KnownTask(
        classes=("negative", "positive"),
        prompt="{text} It was",
        words=GREAT,
        sentences=("This product is terrible.", "This product is great."),
        split=("split", "train", "dev"),
        group="domain",
    ),
    "squad": KnownTask(
        text=("title", "context", "question"),
        optional=("title",),
        prompt="Title: {title}\nContext: {context}\nQuestion: {question}\nAnswer:",
        answer="answer",
        hub=Hub("rajpurkar/squad", test="validation", columns={"answer": "answers.text"}),
    ),
    "dolly": KnownTask(
        text=("instruction", "context"),
        optional=("context",),
        prompt="### Instruction:\n{instruction}\n\n### Input:\n{context}\n\n### Response:",
        answer="response",
        score="rouge_l",
        hub=Hub("databricks/databricks-dolly-15k"),
        held_out=1000,
        group="category",
    ),
    "text": KnownTask(),
}
