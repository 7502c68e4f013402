"""Prompts become tokens: the text is cut where it is too long, never the prompt's end; label words are one token."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from zorba_ray.config.errors import ConfigError

COMMON = ("good", "bad", "great", "terrible", "yes", "no", "true", "false", "positive", "negative", "first", "second")
LIKE, TRIED, OFFERED = 3, 100, 6  # label words that are offered: so many like the one given, tried, and in all


class Encoder:
    """A tokenizer and a prompt. `ending` follows the prompt: a masked model's mask, or nothing."""

    def __init__(self, tokenizer: Any, prompt: str, fields: Sequence[str], limit: int, masked: bool, causal: bool):
        self.tokenizer = tokenizer
        self.prompt = prompt.rstrip(" ")
        self.fields = list(fields)
        self.limit = limit
        self.ending = f" {tokenizer.mask_token}." if masked else ""
        special = tokenizer("this", return_special_tokens_mask=True)["special_tokens_mask"]
        self.closing = special[::-1].index(0) if causal else 0  # tokens that the tokenizer puts after the text

    def encode(self, rows: Mapping[str, Sequence[str]]) -> list[list[int]]:
        """Token ids of every row's prompt, at most `limit` each."""
        room = self.limit - len(self.tokens([self.render(dict.fromkeys(self.fields, ""))])[0])
        if room < 1:
            raise ConfigError(f"task.max_tokens is {self.limit}, and the prompt alone takes {self.limit - room} tokens")
        cut = {name: self.clip_all(rows[name], room) for name in self.fields}
        texts = [self.render(dict(zip(self.fields, row, strict=True))) for row in zip(*cut.values(), strict=True)]
        encoded = self.tokens(texts)
        for i, ids in enumerate(encoded):
            if len(ids) > self.limit:
                encoded[i] = self.shorten({name: cut[name][i] for name in self.fields}, ids)
        return encoded

    def render(self, row: Mapping[str, str]) -> str:
        return self.prompt.format(**row).strip(" ") + self.ending

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """With the special tokens that the model expects; a causal model's prompt is left open at its end."""
        encoded: list[list[int]] = self.tokenizer(texts, verbose=False)["input_ids"] if texts else []
        return [ids[: len(ids) - self.closing] for ids in encoded]

    def clip_all(self, texts: Sequence[str], room: int) -> list[str]:
        """Each text's first `room` tokens; a token is at least a byte, so short texts are passed over."""
        long = [i for i, text in enumerate(texts) if len(text.encode()) > room]
        clipped = list(texts)
        for i, text in zip(long, self.clip([texts[i] for i in long], room), strict=True):
            clipped[i] = text
        return clipped

    def clip(self, texts: list[str], room: int) -> list[str]:
        if not texts:
            return []
        found = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [
            text if len(offsets) <= room else text[: offsets[room][0]].rstrip()  # up to the first token left out
            for text, offsets in zip(texts, found["offset_mapping"], strict=True)
        ]

    def shorten(self, row: dict[str, str], ids: list[int]) -> list[int]:
        """Cut the longest field, again and again, until the prompt fits."""
        while len(ids) > self.limit:
            name = max(row, key=lambda field: len(row[field]))
            length = len(self.tokenizer(row[name], add_special_tokens=False)["input_ids"])
            clipped = self.clip([row[name]], max(0, length - (len(ids) - self.limit)))[0]
            assert len(clipped) < len(row[name]), "a cut field is shorter, so this ends"
            row[name] = clipped
            ids = self.tokens([self.render(row)])[0]
        return ids

    def label_tokens(self, words: Sequence[str]) -> tuple[int, ...]:
        """The token of each label word as it follows the prompt."""
        before = self.prompt.format(**dict.fromkeys(self.fields, "this")).strip(" ")
        gap = "" if before.endswith("\n") else " "
        plain: list[int] = self.tokenizer(before, add_special_tokens=False)["input_ids"]
        chosen: dict[int, str] = {}
        for word in words:
            ids: list[int] = self.tokenizer(before + gap + word, add_special_tokens=False)["input_ids"]
            pieces = self.tokenizer.convert_ids_to_tokens(ids[len(plain) :])
            if ids[: len(plain)] != plain or len(pieces) != 1:
                raise ConfigError(
                    f"task.words: {word!r} after {before[-20:]!r} is {pieces} for this model, and a label word must be "
                    f"one token{self.others(word, before + gap, plain)}"
                )
            if ids[-1] == self.tokenizer.unk_token_id:
                raise ConfigError(
                    f"task.words: {word!r} is not in this model's vocabulary{self.others(word, before + gap, plain)}"
                )
            if ids[-1] in chosen:
                raise ConfigError(f"task.words: {chosen[ids[-1]]!r} and {word!r} are the same token for this model")
            chosen[ids[-1]] = word
        return tuple(chosen)

    def answers(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """The tokens of each answer as it follows the prompt, and of one that ends a text: at most so many."""
        before = self.prompt.format(**dict.fromkeys(self.fields, "this")).strip(" ")
        gap = "" if before.endswith("\n") else " "
        plain: list[int] = self.tokenizer(before, add_special_tokens=False)["input_ids"]
        joined = self.tokenizer([before + gap + text for text in texts], add_special_tokens=False, verbose=False)
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        room, count = most - len(end), len(plain)
        if not all(ids[:count] == plain for ids in joined["input_ids"]):
            raise ConfigError(f"task.prompt ends in {before[-20:]!r}, which this model's tokenizer joins with what "
                              f"follows; end it with another character, such as ':'")  # fmt: skip
        return [ids[count : count + room] + (end if len(ids) - count <= room else []) for ids in joined["input_ids"]]

    def others(self, word: str, before: str, plain: list[int]) -> str:
        """What to say of words that are one token: first those like `word`, then common ones, then any long ones."""
        texts = {self.tokenizer.convert_tokens_to_string([token]).strip() for token in self.tokenizer.get_vocab()}
        words = sorted(text for text in texts if len(text) > 2 and text.isalpha())
        alike = [text for text in words if text[:3].lower() == word.strip()[:3].lower()]
        longest = sorted(words, key=lambda text: (-len(text), text))[:TRIED]
        offered: list[str] = []
        for other in dict.fromkeys([*difflib.get_close_matches(word, alike, LIKE, 0.5), *COMMON, *longest]):
            ids: list[int] = self.tokenizer(before + other, add_special_tokens=False)["input_ids"]
            if ids[:-1] == plain and ids[-1] != self.tokenizer.unk_token_id:
                offered.append(other)
            if len(offered) == OFFERED:
                break
        return f"; words that do are {', '.join(offered)}" if offered else "; choose another word"

    def tail(self) -> int:
        """Tokens after the answer position, the same for every example."""
        if not self.ending:
            return 0
        ids = self.tokens([self.render(dict.fromkeys(self.fields, "this"))])[0]
        return len(ids) - 1 - ids.index(self.tokenizer.mask_token_id)


def windows(documents: Sequence[Sequence[int]], length: int) -> list[list[int]]:
    """Documents in runs of at most `length` tokens; a last run of one token predicts nothing and is dropped."""
    runs = [list(ids[start : start + length]) for ids in documents for start in range(0, len(ids), length)]
    return [run for run in runs if len(run) > 1]
