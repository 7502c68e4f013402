"""What a model is asked: token ids, and the positions where an answer is expected."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B examples of T tokens (padded on the right) with M wanted answers.

    Answers stand at positions (rows[m], cols[m]). Classification by label words: M = B, cols = the last real token,
    targets = label indices. Language modelling: one answer per predicted token, targets = token ids. Pooled encoders
    (prototype or classifier head) answer once per example and read neither rows nor cols.
    """

    ids: Tensor  # [B, T] int64
    mask: Tensor  # [B, T] int64, 1 = real token
    rows: Tensor  # [M] int64, example of each answer
    cols: Tensor  # [M] int64, position of each answer
    targets: Tensor  # [M] int64

    @property
    def count(self) -> int:
        """Number of targets M that the mean loss is taken over."""
        return int(self.targets.numel())

    def to(self, device: torch.device | str) -> Batch:
        return replace(
            self,
            ids=self.ids.to(device),
            mask=self.mask.to(device),
            rows=self.rows.to(device),
            cols=self.cols.to(device),
            targets=self.targets.to(device),
        )
