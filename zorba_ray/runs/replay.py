"""A run's model at any round: the base, loaded as at the beginning, and the ledger replayed onto it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config, TaskConfig
from zorba_ray.ledger import Ledger, LedgerError, read_ledger, replay
from zorba_ray.ledger.snapshot import Snapshot, read_snapshots
from zorba_ray.ledger.tensors import FOLDER, file_name, is_gone
from zorba_ray.messages import Header
from zorba_ray.model import BlockModel
from zorba_ray.model.quantise import dequantise
from zorba_ray.rounds.allocator import active_in
from zorba_ray.rounds.host import vectors_sha256
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.past import read_past
from zorba_ray.runs.plans import read_plans
from zorba_ray.runs.prepare import load_base_model
from zorba_ray.runs.retrace import tell
from zorba_ray.tasks import Task, load_task
from zorba_ray.world.budgets import client_budgets

Rounds = int | Literal["best"] | None  # how many; None: all that the ledger has


@dataclass(frozen=True)
class Replayed:
    """The model after `rounds` rounds, and the digest of its block vectors; `start`: the round of the snapshot from
    which it was replayed (0: the base), because what led there is gone."""

    model: BlockModel
    task: TaskConfig
    rounds: int
    sha256: str
    start: int = 0


def replayed_model(folder: Path, rounds: Rounds = None, client: int | None = None) -> Replayed:
    """The model after so many rounds, or after the best evaluated one; as `client` has it then, if one is named."""
    config = stored_config(folder)
    task = load_task(config.task, config.model, config.seed, config.clients.partition_column)
    return replayed_on(folder, rounds, config, task, client)


def replayed_on(folder: Path, rounds: Rounds, config: Config, task: Task, client: int | None = None) -> Replayed:
    """... with the head that `task` asks for."""
    ledger = read_ledger(folder / LEDGER)
    done = len(ledger.entries)
    rounds = best_round(folder) if rounds == "best" else done if rounds is None else rounds
    if not 0 <= rounds <= done:
        raise ConfigError(f"the ledger of {folder} has {done} rounds; it cannot be replayed to round {rounds}")
    if client is not None:
        rounds = last_download(folder, config, client, rounds)
    model = load_base_model(config, task)
    vectors = [block.vector for block in model.blocks]
    refuse_another_base(vectors_sha256([vector.numpy() for vector in vectors]), ledger.header, folder, config)
    snapshot = beginning(folder, ledger, rounds)
    start = snapshot.rounds if snapshot else 0
    if snapshot:
        for vector, kept in zip(vectors, snapshot.vectors, strict=True):
            vector.copy_(torch.tensor(kept))
    replay(vectors, ledger.header, (entry.step for entry in ledger.entries[start:rounds]))
    model.moved()
    if client is not None:
        keep_as(model, config, folder, client, rounds)
    return Replayed(model, config.task, rounds, vectors_sha256([vector.numpy() for vector in vectors]), start)


def refuse_another_base(sha256: str, header: Header, folder: Path, config: Config) -> None:
    """The base must be the one that the ledger refers to."""
    if sha256 != header.base_sha256:
        raise LedgerError(
            f"the model {config.model.called} is not the one that {folder} was begun with (its weights differ); "
            f"put the original weights back"
        )


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


def best_round(folder: Path) -> int:
    """Rounds done at the evaluation with the highest accuracy; of equal ones the least loss, then the earliest."""
    found = read_past(folder).evaluations.to_pylist()
    if not found:
        raise ConfigError(f"{folder} has no evaluation, so that no round is the best; name a number of rounds")
    best = min(found, key=lambda row: (-row["accuracy"], row["loss"], row["round"]))
    return int(best["round"])


def last_download(folder: Path, config: Config, client: int, rounds: int) -> int:
    """Rounds that a client has, after `rounds` of them: who is chosen downloads the steps before its round, and nothing
    until it is chosen again. 0: it was never chosen and has the base."""
    if not 0 <= client < config.clients.count:
        raise ConfigError(f"the run has clients 0 to {config.clients.count - 1}, and no client {client}")
    asked = [
        told.round.round
        for told in tell(folder)
        if told.round is not None and told.round.round < rounds and client in {each.client for each in told.members}
    ]
    return max(asked, default=0)


def keep_as(model: BlockModel, config: Config, folder: Path, client: int, round: int) -> None:
    """Put blocks that the client has not active in a round into the few bits that it keeps of them, if it does."""
    class_of = client_budgets(config.clients, config.seed).class_of
    row = active_in(config, read_plans(folder), class_of, round)[client]
    for block, on in zip(model.blocks, row, strict=True):
        if not on and block.bits is not None:
            for few, view in zip(block.frozen(model.device), block.base, strict=False):
                dequantise(few, view)
    model.moved()
