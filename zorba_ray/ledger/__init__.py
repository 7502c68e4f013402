"""The ledger: the seeds and coefficients that, with the base, are the model at any round."""

from zorba_ray.ledger.file import (
    BlockInfo,
    Entry,
    Header,
    Ledger,
    LedgerError,
    LedgerWriter,
    ledger_sha256,
    read_ledger,
    truncate_ledger,
)
from zorba_ray.ledger.replay import apply_step, replay
from zorba_ray.ledger.step import CombinedStep, PrivateStep, SharedStep, Step, TensorStep, no_step

__all__ = [
    "BlockInfo",
    "CombinedStep",
    "Entry",
    "Header",
    "Ledger",
    "LedgerError",
    "LedgerWriter",
    "PrivateStep",
    "SharedStep",
    "Step",
    "TensorStep",
    "apply_step",
    "ledger_sha256",
    "no_step",
    "read_ledger",
    "replay",
    "truncate_ledger",
]
