"""What a model is asked: token ids, and the positions where an answer is expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
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
    members: tuple[tuple[int, int], ...] = field(default=(), kw_only=True)  # of joined ones: examples, targets of each

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

    def parts(self) -> list[tuple[slice, Batch]]:
        """The batches that were joined, padded as they are here, and which examples are theirs; of one, itself."""
        if not self.members:
            return [(slice(None), self)]
        found, example, target = [], 0, 0
        for examples, targets in self.members:
            which, wanted = slice(example, example + examples), slice(target, target + targets)
            rows = self.rows[wanted] - example
            found.append((which, Batch(self.ids[which], self.mask[which], rows, self.cols[wanted],
                                       self.targets[wanted])))  # fmt: skip
            example, target = which.stop, wanted.stop
        return found


def joined(batches: Sequence[Batch], pad: int) -> Batch:
    """One batch of several, padded to the longest; each is asked what it was."""
    length = max(batch.ids.shape[1] for batch in batches)
    sizes = [batch.ids.shape[0] for batch in batches]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return Batch(
        ids=torch.cat([F.pad(each.ids, (0, length - each.ids.shape[1]), value=pad) for each in batches]),
        mask=torch.cat([F.pad(each.mask, (0, length - each.mask.shape[1])) for each in batches]),
        rows=torch.cat([each.rows + start for each, start in zip(batches, starts, strict=True)]),
        cols=torch.cat([each.cols for each in batches]),
        targets=torch.cat([each.targets for each in batches]),
        members=tuple((size, each.count) for size, each in zip(sizes, batches, strict=True)),
    )
