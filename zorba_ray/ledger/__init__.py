"""The ledger: the seeds and coefficients that, with the base, are the model at any round."""

from zorba_ray.ledger.file import (
    Entry,
    Ledger,
    LedgerError,
    LedgerWriter,
    count_rounds,
    entry_text,
    has_header,
    header_seal,
    ledger_sha256,
    read_ledger,
    truncate_ledger,
)
from zorba_ray.ledger.replay import replay

__all__ = [
    "Entry",
    "Ledger",
    "LedgerError",
    "LedgerWriter",
    "count_rounds",
    "entry_text",
    "has_header",
    "header_seal",
    "ledger_sha256",
    "read_ledger",
    "replay",
    "truncate_ledger",
]
