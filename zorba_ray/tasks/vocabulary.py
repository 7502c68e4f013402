"""A tokenizer for a model that has none: a token is a word, or a punctuation mark, of the task's own training text.

A model of random weights has learnt no language, so any vocabulary is as good as another. This one follows from the
data alone, makes texts about as long as a real one does (four words to five tokens), and knows every label word.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any


def word_tokenizer(texts: Iterable[str], first: Sequence[str], config: Any) -> Any:
    """The words of `first`, then those of `texts`, the commonest first, as many as a model of this transformers
    `config` has room for. Special tokens have the numbers that the config gives them: a text begins with the one that
    begins texts, and for an encoder ends with the one that ends them."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    masked = any(name.endswith("ForMaskedLM") for name in config.architectures or ())
    begins, ends, pads = (number(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id"))
    special = {"<mask>": config.vocab_size - 1} if masked else {}
    special |= {name: at for name, at in (("</s>", ends), ("<s>", begins), ("<pad>", pads)) if at is not None}
    special = {name: at for at, name in {at: name for name, at in special.items()}.items()}  # one name for each number
    free = (at for at in range(config.vocab_size) if at not in special.values())
    vocabulary = {**special, "<unk>": next(free)}
    splits = BertPreTokenizer()
    known = [piece for text in first for piece, _ in splits.pre_tokenize_str(text)]
    for word in itertools.chain(known, by_frequency(texts, config.vocab_size)):
        if word not in vocabulary:
            at = next(free, None)
            if at is None:
                break
            vocabulary[word] = at
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splits
    names = {at: name for name, at in special.items()}
    before, after = names.get(begins), names.get(ends) if not is_causal(config) else None
    used = [name for name in (before, after) if name is not None]
    if used:
        template = " ".join(filter(None, [before, "$A", after]))
        tokenizer.post_processor = TemplateProcessing(
            single=template, special_tokens=[(name, special[name]) for name in dict.fromkeys(used)]
        )
    given = {"bos_token": before, "eos_token": names.get(ends), "pad_token": names.get(pads), "unk_token": "<unk>",
             "mask_token": "<mask>" if masked else None}  # fmt: skip
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, **{role: name for role, name in given.items() if name is not None}
    )


def by_frequency(texts: Iterable[str], most: int) -> list[str]:
    """The words of some texts, the commonest first; of equally common ones the first of the alphabet."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.trainers import WordLevelTrainer

    counter = Tokenizer(WordLevel(unk_token="<unk>"))
    counter.pre_tokenizer = BertPreTokenizer()
    counter.train_from_iterator(texts, WordLevelTrainer(vocab_size=most, show_progress=False))
    found = counter.get_vocab()
    return sorted(found, key=found.__getitem__)


def is_causal(config: Any) -> bool:
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ())


def number(config: Any, name: str) -> int | None:
    """A special token's number, where the config has one that is in its vocabulary."""
    value = getattr(config, name, None)
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) and 0 <= value < config.vocab_size else None
