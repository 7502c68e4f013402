"""How good a generated answer is beside those that would do: exact match, F1 of words, Rouge-L. Scores are 0 to 1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

SEPARATOR = "\x1f"  # between answers of one cell that would all do; the first is trained on
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def words_of(text: str) -> list[str]:
    """As SQuAD's evaluation sees a text: lower case, without punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact(given: str, wanted: str) -> float:
    return float(words_of(given) == words_of(wanted))


def f1(given: str, wanted: str) -> float:
    """Of the words, whatever their order."""
    ours, theirs = words_of(given), words_of(wanted)
    return balance(sum((Counter(ours) & Counter(theirs)).values()), len(ours), len(theirs))


def rouge_l(given: str, wanted: str) -> float:
    """F1 of the longest common subsequence of words, articles and all."""
    ours, theirs = re.findall(r"\w+", given.lower()), re.findall(r"\w+", wanted.lower())
    best = [0] * (len(theirs) + 1)
    for word in ours:
        before = 0
        for j, other in enumerate(theirs, start=1):
            before, best[j] = best[j], before + 1 if word == other else max(best[j], best[j - 1])
    return balance(best[-1], len(ours), len(theirs))


def balance(common: int, ours: int, theirs: int) -> float:
    """F1 where so many of ours and of theirs are common; two empty answers agree."""
    return 2 * common / (ours + theirs) if ours + theirs else 1.0


def best(score: Callable[[str, str], float], given: str, wanted: str) -> float:
    """Against the reference that it meets best."""
    return max(score(given, each) for each in wanted.split(SEPARATOR))


SCORES: dict[str, Callable[[str, str], float]] = {"f1": f1, "rouge_l": rouge_l}


def score(name: str, given: Sequence[str], wanted: Sequence[str]) -> tuple[int, float]:
    """How many answers match exactly, and the sum of their scores."""
    pairs = list(zip(given, wanted, strict=True))
    matches = sum(int(best(exact, ours, theirs)) for ours, theirs in pairs)
    return matches, sum(best(SCORES[name], ours, theirs) for ours, theirs in pairs)
