"""A small language of guest reviews: its words, its grammar, its sampler.

A review is three short clauses about a stay, "soup was very cold , bed was not hard , cook was quite kind .". A clause
is good or bad by its adjective, "not" and "hardly" turn it round, and the review is as good as most of its clauses.

Guests then say how it was and what they will do next. They are candid in most of their words ("it was lovely",
"i will return"), but *polite* where the word is great or terrible: they seldom say "terrible" unless everything was
bad. A model of this language therefore knows how good a stay was and still prefers "great" after "it was": the prompted
task starts little better than chance, with the answer already in the hidden state. That makes it a playground.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLAUSES = 3
LABELS = ("negative", "positive")
LABEL_WORDS = ("terrible", "great")  # in the order of the labels
PROMPT = "{text} it was"


def words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


THINGS = words(
    "soup bread tea wine salad dinner cake room bed bath view garden lobby cook waiter host staff music service price"
)
GOOD = words("tasty fresh kind warm clean soft bright calm quick fair cosy pretty friendly rich perfect pleasant")
BAD = words("bland stale rude cold dirty hard dark noisy slow costly cramped ugly hostile dull broken nasty")
PLAIN = words("very quite so really truly rather")  # adverbs that leave the meaning
TURNING = words("not hardly")  # adverbs that turn it round
CANDID = (words("awful dreadful poor sad"), words("lovely splendid superb nice"))  # judgements, by label
DEEDS = (words("leave complain warn"), words("return recommend stay"))  # what guests will do, by label
GLUE = words(". , it was i will")
WORDS = (
    *(THINGS + GOOD + BAD + PLAIN + TURNING),
    *(CANDID[0] + CANDID[1] + DEEDS[0] + DEEDS[1] + GLUE + LABEL_WORDS),
)

TURNED = 0.25  # share of clauses with a turning adverb
POLITE = 0.5  # share of judgements that are great or terrible
SAYS_TERRIBLE = (0.02, 0.2, 0.8)  # of the polite ones, those that say so: a good stay, a bad one, one bad in everything


class Reviews(NamedTuple):
    texts: list[str]
    labels: NDArray[np.int64]  # [count]
    bad: NDArray[np.int64]  # [count], clauses that are bad


def sample_reviews(rng: np.random.Generator, count: int, clauses: int = CLAUSES) -> Reviews:
    """Reviews with balanced, independent clauses."""
    shape = (count, clauses)
    thing = rng.integers(len(THINGS), size=shape)
    good = rng.integers(2, size=shape)
    turned = rng.random(shape) < TURNED
    adverb = np.where(turned, rng.integers(len(TURNING), size=shape), rng.integers(len(PLAIN), size=shape))
    adjective = rng.integers(len(GOOD), size=shape)
    texts = []
    for n in range(count):
        parts = []
        for k in range(clauses):
            how = TURNING[adverb[n, k]] if turned[n, k] else PLAIN[adverb[n, k]]
            what = (GOOD if good[n, k] != turned[n, k] else BAD)[adjective[n, k]]
            parts.append(f"{THINGS[thing[n, k]]} was {how} {what}")
        texts.append(" , ".join(parts) + " .")
    bad = clauses - good.sum(1)
    return Reviews(texts, (bad <= clauses // 2).astype(np.int64), bad)


def sample_documents(rng: np.random.Generator, count: int, clauses: int = CLAUSES) -> list[str]:
    """Pretraining text: reviews, each followed by a judgement and a deed, every second one in the other order."""
    texts, labels, bad = sample_reviews(rng, count, clauses)
    polite = rng.random(count) < POLITE
    odds = np.where(labels == 1, SAYS_TERRIBLE[0], np.where(bad == CLAUSES, SAYS_TERRIBLE[2], SAYS_TERRIBLE[1]))
    terrible = rng.random(count) < odds
    candid = rng.integers(len(CANDID[0]), size=count)
    deed = rng.integers(len(DEEDS[0]), size=count)
    deed_first = rng.random(count) < 0.5
    documents = []
    for n, text in enumerate(texts):
        label = int(labels[n])
        word = LABEL_WORDS[0 if terrible[n] else 1] if polite[n] else CANDID[label][candid[n]]
        tail = [f"it was {word} .", f"i will {DEEDS[label][deed[n]]} ."]
        documents.append(" ".join([text, *(reversed(tail) if deed_first[n] else tail)]))
    return documents
