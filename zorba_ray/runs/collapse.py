"""Whether a model that could do something has come to give one answer to everything. No torch.

The best that one answer for all can do: the commonest label's share as accuracy, and as loss the entropy of the labels.
A model that was better than that and is now no better in either has collapsed, however small its loss is beside the
first round's. Diverging losses are the training loop's to see.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from zorba_ray.world.world import Diverged

if TYPE_CHECKING:
    from zorba_ray.tasks.examples import Task

DEVIATIONS = 2.0  # by which an accuracy must exceed that of one answer to be better
CLOSE = 1e-3  # losses that differ by less are the same


def best_guess(task: Task) -> tuple[float, float] | None:
    """Accuracy and loss of one answer for all test examples; None without labels. Over the whole vocabulary a
    loss cannot be less than the entropy either."""
    if not task.labels or not len(task.test):
        return None
    shares = np.bincount(task.test.labels) / len(task.test)
    entropy = -sum(float(share) * math.log(share) for share in shares if share > 0)
    return float(shares.max()), entropy


class Collapse:
    """Evaluations in order; `action` is the config's guard.collapse."""

    def __init__(self, action: str, guess: tuple[float, float] | None):
        self._action = action
        self._guess = guess if action != "off" and guess is not None and guess[1] > 0 else None
        self._better = False  # some evaluation was better than one answer
        self._down = False  # said already

    def recall(self, accuracy: float, loss: float, examples: int) -> None:
        """An evaluation of an earlier sitting."""
        if self._guess is not None:
            level = self._judge(accuracy, loss, examples)
            self._better |= level > 0
            self._down = self._better and level < 0

    def seen(self, rounds: int, accuracy: float, loss: float, examples: int) -> str:
        """What to tell of an evaluation; empty: nothing. `Diverged` where the run is to stop."""
        before = self._down
        self.recall(accuracy, loss, examples)
        if self._guess is None or not self._down or before:
            return ""
        text = (
            f"collapsed to chance by round {rounds}: accuracy {accuracy:.1%} and loss {loss:.4g} are no better than "
            f"one answer for all ({self._guess[0]:.1%}, {self._guess[1]:.4g}), and were before. Lower step.lr"
        )
        if self._action == "stop":
            raise Diverged(text)
        return f"{text}; guard.collapse=stop stops here"

    def _judge(self, accuracy: float, loss: float, examples: int) -> int:
        """1: better than one answer in accuracy, beyond chance, or in loss; −1: no better in either; 0: cannot say."""
        assert self._guess is not None
        share, entropy = self._guess
        chance = DEVIATIONS * math.sqrt(share * (1 - share) / examples)
        if accuracy > share + chance or loss < entropy * (1 - CLOSE):
            return 1
        return -1 if accuracy <= share + chance / DEVIATIONS or not math.isfinite(loss) else 0
