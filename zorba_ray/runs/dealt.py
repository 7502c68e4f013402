"""Who has which data: kept in the run's folder, for its report. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.runs.folder import DEALT, write_whole


@dataclass(frozen=True)
class Dealt:
    """Training examples of each client by label, [N, C]; one column where there are no labels."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Examples of each client, [N]."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.int64)

    @property
    def skew(self) -> float:
        """Half the L1 distance between a client's shares of the labels and those of all clients, the mean weighted by
        examples (0: alike; near 1: nobody has what another has)."""
        shares = self.counts / np.maximum(self.sizes, 1)[:, None]
        apart = np.abs(shares - self.counts.sum(axis=0) / self.counts.sum()).sum(axis=1) / 2
        return float((apart * self.sizes).sum() / self.sizes.sum())


def dealt_to(labels: Sequence[str], of: NDArray[np.int64], shards: Sequence[NDArray[np.int64]]) -> Dealt:
    """`of`: the label of each training example."""
    width = max(1, len(labels))
    return Dealt(tuple(labels), np.stack([np.bincount(of[shard], minlength=width) for shard in shards]))


def write_dealt(dealt: Dealt, folder: Path) -> None:
    write_whole(folder / DEALT, json.dumps({"labels": dealt.labels, "clients": dealt.counts.tolist()}))


def read_dealt(folder: Path) -> Dealt | None:
    """None of a run that did not keep it."""
    path = folder / DEALT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Dealt(tuple(found["labels"]), np.array(found["clients"], dtype=np.int64))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is damaged; remove it, and the report does without") from None
