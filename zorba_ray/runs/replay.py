"""A run's model at any round: the base, loaded as at the beginning, and the ledger replayed onto it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger import LedgerError, read_ledger, replay
from zorba_ray.model import BlockModel
from zorba_ray.rounds.host import vectors_sha256
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.prepare import load_base_model
from zorba_ray.tasks import load_task


@dataclass(frozen=True)
class Replayed:
    """The model after `rounds` rounds, and the digest of its block vectors."""

    model: BlockModel
    rounds: int
    sha256: str


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
    replay(vectors, ledger.header, (entry.step for entry in ledger.entries[:rounds]))
    return Replayed(model, rounds, vectors_sha256([vector.numpy() for vector in vectors]))
