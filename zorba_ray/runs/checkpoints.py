"""Snapshots of a run's weights beside its ledger, every so many rounds (`checkpoint.*`), wherever clients compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zorba_ray.config.schema import Config
from zorba_ray.ledger.snapshot import Snapshot, oldest_round, write_snapshot
from zorba_ray.ledger.tensors import forget_tensors


def is_due(config: Config, rounds: int) -> bool:
    """Whether the weights are kept after so many rounds: not those of the last, after which nothing comes."""
    every = config.checkpoint.every
    return every > 0 and rounds % every == 0 and rounds != config.rounds


def keep(config: Config, folder: Path, seal: str, take: Callable[[], Snapshot | None]) -> None:
    """Write the snapshot that is taken, if one can be, of the rounds whose last line in the ledger has that seal; then
    let go of tensors that nobody needs any more."""
    snapshot = take()
    if snapshot is None:
        return
    write_snapshot(folder, snapshot, seal, config.checkpoint.keep)
    if config.checkpoint.tensors:
        forget_tensors(folder, min(oldest_round(folder), snapshot.rounds - config.checkpoint.tensors))
