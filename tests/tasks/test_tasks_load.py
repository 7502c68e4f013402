"""From a config to token ids: what is asked, where prompts end, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerFast

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config, ModelConfig, TaskConfig
from zorba_ray.playground import MODEL
from zorba_ray.playground.language import LABEL_WORDS, PROMPT
from zorba_ray.runs.prepare import label_notes
from zorba_ray.tasks import load_task
from zorba_ray.tasks.batches import make_batch
from zorba_ray.tasks.encode import Encoder, windows
from zorba_ray.tasks.load import Rows, kind_of, set_aside
from zorba_ray.tasks.registry import KNOWN

TOKENIZER = AutoTokenizer.from_pretrained(MODEL)
VOCABULARY = ["soup", "bread", "was", "very", "not", "tasty", "wine", "quite", "cold", "i", "will"]
FIELD = st.lists(st.sampled_from(VOCABULARY), max_size=30)


def files(folder: Path, rows: list[tuple[str, str]], **keys: object) -> TaskConfig:
    """A task on files of the same rows for training and test."""
    path = folder / "rows.tsv"
    path.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows))
    settings: dict[str, object] = {"train": str(path), "test": str(path), "text": ["text"]}
    settings |= {"words": ["terrible", "great"], "prompt": "{text} it was"}
    return TaskConfig(name="files", **{**settings, **keys})  # type: ignore[arg-type]


def test_the_embedded_task_asks_for_great_or_terrible() -> None:
    task = load_task(TaskConfig(), ModelConfig(), 0)
    assert (task.kind, task.labels, task.tail) == ("words", ("negative", "positive"), 0)
    assert tuple(TOKENIZER.convert_ids_to_tokens(list(task.label_ids))) == LABEL_WORDS
    assert (len(task.train), len(task.test)) == (4000, 1000)
    text = TOKENIZER.decode(task.train[0])
    assert text.startswith("</s>") and text.endswith(PROMPT.format(text="").strip())
    batch = make_batch(task.train, np.arange(3), task)
    assert TOKENIZER.convert_ids_to_tokens(batch.ids[batch.rows, batch.cols].tolist()) == ["was"] * 3


def test_the_embedded_task_needs_no_datasets_package() -> None:
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from zorba_ray.tasks import load_task\n"
        "assert 'transformers' not in sys.modules\n"
        "from zorba_ray.config.schema import *\n"
        "print(len(load_task(TaskConfig(train_examples=50), ModelConfig(), 0).train))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "50", done.stderr


def test_the_seed_draws_the_examples_where_fewer_are_wanted() -> None:
    config = TaskConfig(train_examples=50, test_examples=7)
    tasks = [load_task(config, ModelConfig(), seed) for seed in (3, 3, 4)]
    assert [(len(task.train), len(task.test)) for task in tasks] == [(50, 7)] * 3
    assert np.array_equal(tasks[0].train.tokens, tasks[1].train.tokens)
    assert not np.array_equal(tasks[0].train.tokens, tasks[2].train.tokens)
    whole = load_task(TaskConfig(), ModelConfig(), 0)
    pairs = {(bytes(whole.train[i]), int(whole.train.labels[i])) for i in range(len(whole.train))}
    assert all((bytes(tasks[0].train[i]), int(tasks[0].train.labels[i])) in pairs for i in range(50))


def test_labels_of_files_are_numbered_by_size_or_alphabet(tmp_path: Path) -> None:
    task = load_task(files(tmp_path, [("10", "wine"), ("9", "soup"), ("10", "tea")]), ModelConfig(), 0)
    assert (task.labels, task.train.labels.tolist()) == (("9", "10"), [1, 0, 1])
    task = load_task(files(tmp_path, [("good", "wine"), ("bad", "soup")]), ModelConfig(), 0)
    assert (task.labels, task.train.labels.tolist()) == (("bad", "good"), [1, 0])


def test_labels_are_in_the_order_that_is_given(tmp_path: Path) -> None:
    config = files(tmp_path, [("good", "wine"), ("bad", "soup")], labels=["good", "bad"])
    task = load_task(config, ModelConfig(), 0)
    assert (task.labels, task.train.labels.tolist()) == (("good", "bad"), [0, 1])
    (told,) = label_notes(Config(task=config), task)
    assert "'good' is 'terrible', 'bad' is 'great'" in told  # what the mistake in this order looks like
    config.labels = ["good", "evil"]
    with pytest.raises(ConfigError, match=r"row 2 has label 'bad'; the labels are good, evil"):
        load_task(config, ModelConfig(), 0)


@pytest.mark.parametrize("keys", [{}, {"labels": ["negative", "positive"]}])
def test_a_known_tasks_labels_may_be_the_names_of_its_classes(tmp_path: Path, keys: dict[str, object]) -> None:
    config = files(tmp_path, [("positive", "wine"), ("negative", "soup")], **keys)
    config.name, config.prompt, config.text = "sst2", "{text} it was", []
    task = load_task(config, ModelConfig(), 0)
    assert (task.labels, task.train.labels.tolist()) == (("negative", "positive"), [1, 0])


@settings(max_examples=60)
@given(
    fields=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6),
    limit=st.integers(6, 40),
)
def test_a_long_text_is_cut_and_the_prompts_end_never(
    fields: list[tuple[list[str], list[str]]], limit: int
) -> None:
    encoder = Encoder(TOKENIZER, "{a} , {b} it was", ["a", "b"], limit, masked=False, causal=True)
    rows = {"a": [" ".join(a) for a, _ in fields], "b": [" ".join(b) for _, b in fields]}
    whole = Encoder(TOKENIZER, "{a} , {b} it was", ["a", "b"], 1000, masked=False, causal=True).encode(rows)
    end = TOKENIZER("it was", add_special_tokens=False)["input_ids"]
    for ids, uncut, (a, b) in zip(encoder.encode(rows), whole, fields, strict=True):
        assert ids[-2:] == end and ids[0] == TOKENIZER.bos_token_id
        if len(uncut) <= limit:
            assert ids == uncut
        else:
            assert len(ids) == limit
        first, second = (part.split() for part in TOKENIZER.decode(ids[1:-2]).split(","))
        assert (first, second) == (a[: len(first)], b[: len(second)])  # beginnings, and nothing else


@settings(max_examples=60)
@given(text=st.text("a é漢😀", max_size=40), limit=st.integers(8, 40))
def test_a_text_is_cut_between_characters_where_tokens_are_bytes(text: str, limit: int) -> None:
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    raw = Tokenizer(BPE({symbol: i for i, symbol in enumerate(sorted(ByteLevel.alphabet()))}, []))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    encoder = Encoder(tokenizer, "{text} it was", ["text"], limit, masked=False, causal=True)
    ids = encoder.encode({"text": [text]})[0]
    decoded = ByteLevelDecoder().decode(tokenizer.convert_ids_to_tokens(ids))
    assert len(ids) <= limit and decoded.endswith("it was")
    assert text.lstrip(" ").startswith(decoded.removesuffix("it was").rstrip(" "))  # whole characters of its beginning
    assert limit < len(f"{text} it was".encode()) or decoded == f"{text} it was".strip(" ")


def test_a_prompt_longer_than_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task.max_tokens is 3, and the prompt alone takes 3 tokens"):
        load_task(files(tmp_path, [("0", "wine"), ("1", "tea")], max_tokens=3), ModelConfig(), 0)


def test_the_models_positions_bound_the_length(tmp_path: Path) -> None:
    task = load_task(files(tmp_path, [("0", "wine " * 500), ("1", "tea")], max_tokens=512), ModelConfig(), 0)
    assert task.train.lengths.tolist() == [64, 4]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"words": ["terrible", "very kind"]}, r"'very kind' after 'this it was' is \['very', 'kind'\]"),
        ({"words": ["terrible", "excellent"]}, "'excellent' is not in this model's vocabulary"),
        ({"words": ["terrible", "great", "kind"]}, "files has 2 labels .* 3 are given"),
        ({"text": ["words"], "prompt": "{words} it was"}, "no column 'words' .* its columns are label, text"),
        ({"label": "stars"}, "no column 'stars'"),
        ({"test": "gone.tsv"}, "task.test: there is no file gone.tsv"),
        ({"prompt": "{title} it was"}, r"\{title\} is none of the text columns"),
        ({"name": "sst3"}, "known tasks are embedded, sst2"),
        ({"name": "embedded"}, "the embedded task makes its own data"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    config = files(tmp_path, [("0", "wine"), ("1", "tea")])
    for name, value in keys.items():
        setattr(config, name, value)
    with pytest.raises(ConfigError, match=message):
        load_task(config, ModelConfig(), 0)


def test_a_label_that_training_never_saw_is_refused(tmp_path: Path) -> None:
    config = files(tmp_path, [("0", "wine"), ("1", "tea")])
    other = tmp_path / "test.tsv"
    other.write_text("label\ttext\n0\tsoup\n2\twine\n")
    config.test = str(other)
    with pytest.raises(ConfigError, match=r"task.test: row 2 has label '2'; the labels are 0, 1"):
        load_task(config, ModelConfig(), 0)


def test_a_language_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokens are unknown to the model 'embedded'"):
        load_task(files(tmp_path, [("0", "quantum fields " * 5), ("1", "of course " * 5)]), ModelConfig(), 0)


def test_a_natural_partition_keeps_its_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("label,text,who\n0,wine,ann\n1,tea,bob\n0,soup,ann\n")
    config = files(tmp_path, [("0", "wine"), ("1", "tea")], train=str(path), test=str(path))
    groups = load_task(config, ModelConfig(), 0, group_column="who").train.groups
    assert groups is not None and groups.tolist() == [0, 1, 0]
    assert load_task(config, ModelConfig(), 0).train.groups is None


def test_plain_text_is_language_modelling(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("soup was very cold .\n\n" + "wine was not bland . " * 40)
    task = load_task(TaskConfig(name="text", train=str(path), test=str(path), max_tokens=20), ModelConfig(), 0)
    assert (task.kind, task.labels, task.label_ids) == ("language", (), ())
    assert task.train.lengths.tolist() == [6, *[20] * 10]  # 5 and 200 words, each with its beginning
    batch = make_batch(task.train, np.arange(2), task)
    assert batch.count == 5 + 19


def test_windows_lose_no_more_than_a_lonely_token() -> None:
    assert windows([[1, 2, 3, 4, 5], [6], [7, 8]], 2) == [[1, 2], [3, 4], [7, 8]]


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("OPTForCausalLM", "words"),
        ("GPT2LMHeadModel", "words"),
        ("RobertaForMaskedLM", "words"),
        ("BertModel", "prototype"),
        ("BertForSequenceClassification", "classifier"),
    ],
)
def test_the_architecture_decides_how_a_model_answers(architecture: str, kind: str) -> None:
    assert kind_of(architecture, labelled=True) == kind


def test_plain_text_asks_for_a_causal_model() -> None:
    with pytest.raises(ConfigError, match=r"causal language model, not BertModel"):
        kind_of("BertModel", labelled=False)


def masked_folder(folder: Path, architecture: str) -> ModelConfig:
    """A BERT without weights, whose tokenizer puts [CLS] before and [SEP] after the text."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "it", "was", "great", "terrible", "wine", "tea", "the"]
    raw = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = Whitespace()
    raw.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=raw, mask_token="[MASK]", **special).save_pretrained(folder)
    config = BertConfig(vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    config.architectures = [architecture]
    config.save_pretrained(folder)
    return ModelConfig(path=str(folder))


def test_a_masked_model_answers_at_its_mask(tmp_path: Path) -> None:
    model = masked_folder(tmp_path, "BertForMaskedLM")
    task = load_task(files(tmp_path, [("0", "the wine"), ("1", "tea")]), model, 0)
    assert (task.kind, task.tail, task.label_ids) == ("words", 2, (9, 8))
    batch = make_batch(task.train, np.arange(2), task)
    assert batch.ids[batch.rows, batch.cols].tolist() == [4, 4]
    assert batch.ids[1].tolist() == [2, 11, 6, 7, 4, 5, 3, 0]


def test_an_encoder_sees_the_text_and_has_label_sentences(tmp_path: Path) -> None:
    model = masked_folder(tmp_path, "BertModel")
    config = files(tmp_path, [("0", "the wine"), ("1", "tea")], prompt="", words=["it was terrible", "it was great"])
    task = load_task(config, model, 0)
    assert (task.kind, task.sentences) == ("prototype", ((2, 6, 7, 9, 3), (2, 6, 7, 8, 3)))
    assert task.train[0].tolist() == [2, 12, 10, 3]


@pytest.mark.parametrize("name", KNOWN)
def test_known_tasks_are_whole(name: str) -> None:
    known = KNOWN[name]
    assert known.words == () or len(known.words) == len(known.classes) == len(set(known.words))
    assert known.sentences == () or len(known.sentences) == len(known.classes) == len(set(known.sentences))
    known.prompt.format(**dict.fromkeys(known.text, "x"))  # every field is a column
    assert known.hub is None or sorted(known.hub.labels.values()) in ([], [str(c) for c in range(len(known.classes))])


@given(st.integers(0, 40))
def test_what_is_set_aside_is_never_trained_on(count: int) -> None:
    rows = Rows({"text": [str(i) for i in range(80)]}, np.arange(80) % 2, None)
    kept, aside = set_aside(rows, count)
    assert len(aside.labels) == count
    assert sorted(kept.text["text"] + aside.text["text"]) == sorted(rows.text["text"])
    assert set_aside(rows, count)[1].text == aside.text


def test_validation_stands_in_the_place_of_the_test_data() -> None:
    config = TaskConfig(validation_examples=50)
    tested, validated = (load_task(config, ModelConfig(), 0, evaluated=part) for part in ("test", "validation"))
    assert len(validated.test) == 50 and len(tested.test) != 50
    assert np.array_equal(tested.train.tokens, validated.train.tokens)
    assert len(tested.train) == len(load_task(TaskConfig(), ModelConfig(), 0).train) - 50
    with pytest.raises(ConfigError, match=r"task\.validation_examples"):
        load_task(TaskConfig(validation_examples=10**6), ModelConfig(), 0)
