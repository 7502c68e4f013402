"""A run's model at any round: the base, loaded as at the beginning, and the ledger replayed onto it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger import Ledger, LedgerError, read_ledger, replay
from zorba_ray.ledger.snapshot import Snapshot, read_snapshots
from zorba_ray.ledger.tensors import FOLDER, file_name, is_gone
from zorba_ray.model import BlockModel
from zorba_ray.rounds.host import vectors_sha256
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.prepare import load_base_model
from zorba_ray.tasks import load_task


@dataclass(frozen=True)
class Replayed:
    """The model after `rounds` rounds, and the digest of its block vectors; `start`: the round of the snapshot from
    which it was replayed (0: the base), because what led there is gone."""

    model: BlockModel
    rounds: int
    sha256: str
    start: int = 0


def replayed_model(folder: Path, rounds: int | None = None) -> Replayed:
    """`rounds`: how many rounds to replay; None is all of them."""
    config = stored_config(folder)
    ledger = read_ledger(folder / LEDGER)
    done = len(ledger.entries)
    rounds = done if rounds is None else rounds
    if not 0 <= rounds <= done:
        raise ConfigError(f"the ledger of {folder} has {done} rounds; it cannot be replayed to round {rounds}")
    model = load_base_model(config, load_task(config.task, config.model, config.seed, config.clients.partition_column))
    vectors = [block.vector for block in model.blocks]
    if vectors_sha256([vector.numpy() for vector in vectors]) != ledger.header.base_sha256:
        raise LedgerError(
            f"the model at {config.model.path} is not the one that {folder} was begun with (its weights differ); "
            f"put the original weights back"
        )
    snapshot = beginning(folder, ledger, rounds)
    start = snapshot.rounds if snapshot else 0
    if snapshot:
        for vector, kept in zip(vectors, snapshot.vectors, strict=True):
            vector.copy_(torch.tensor(kept))
    replay(vectors, ledger.header, (entry.step for entry in ledger.entries[start:rounds]))
    return Replayed(model, rounds, vectors_sha256([vector.numpy() for vector in vectors]), start)


def beginning(folder: Path, ledger: Ledger, rounds: int) -> Snapshot | None:
    """From where so many rounds are replayed: the base (None), or a snapshot where tensors on the way from it are
    gone."""
    gone = [entry.step for entry in ledger.entries if is_gone(entry.step)]
    needed = max((step.round + 1 for step in gone if step.round < rounds), default=0)
    if needed == 0:
        return None
    sound = [kept for kept in read_snapshots(folder, ledger.seals) if vectors_sha256(kept.vectors) == kept.sha256]
    for kept in sound:
        if needed <= kept.rounds <= rounds:
            return kept
    after = [kept.rounds for kept in sound if kept.rounds > gone[-1].round]
    others = f", or replay to round {min(after)} or a later one" if after else ""
    raise ConfigError(
        f"{folder / FOLDER / file_name(needed - 1)} is missing, and the ledger needs it (checkpoint.tensors lets go of "
        f"the tensors of old rounds); restore it from a copy{others}"
    )
