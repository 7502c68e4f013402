"""Snapshots: the weights after a round, beside the ledger, so that going on need not replay every round. No torch.

The ledger stays the truth. A snapshot names the seal that the ledger's line of its last round has, and the seals are a
chain: one that was taken on other rounds, or of another run, is passed over. So is one whose vectors are not what its
digest says. Deleting all of them loses nothing but time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.ledger.whole import whole_file

FOLDER = "snapshots"


@dataclass(frozen=True)
class Snapshot:
    """Block vectors after so many `rounds`, and their digest as the model itself told it."""

    rounds: int
    vectors: list[NDArray[np.float32]]
    sha256: str


def write_snapshot(folder: Path, snapshot: Snapshot, seal: str, keep: int) -> None:
    """Whole or not at all, and then only the newest `keep` stay."""
    from safetensors.numpy import save

    vectors = {f"{i:06d}": np.ascontiguousarray(v, dtype="<f4") for i, v in enumerate(snapshot.vectors)}
    about = {"rounds": str(snapshot.rounds), "seal": seal, "sha256": snapshot.sha256}
    path = folder / FOLDER / file_name(snapshot.rounds)
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as file:
        file.write(save(vectors, about))
    for old in kept(folder)[:-keep]:
        old.unlink()


def read_snapshots(folder: Path, seals: Sequence[str]) -> Iterator[Snapshot]:
    """Those that lie on the ledger whose lines have these seals (header first), the newest first."""
    from safetensors import SafetensorError, safe_open

    for path in reversed(kept(folder)):
        try:
            with safe_open(path, "numpy") as file:
                about: dict[str, Any] = file.metadata() or {}
                rounds = int(about["rounds"])
                if rounds < len(seals) and about["seal"] == seals[rounds]:
                    yield Snapshot(rounds, [file.get_tensor(name) for name in sorted(file.keys())], about["sha256"])
        except (OSError, SafetensorError, KeyError, ValueError):
            continue


def remove_torn(folder: Path) -> None:
    """What a process that died while it wrote a snapshot left."""
    for path in (folder / FOLDER).glob(".round-*.tmp"):
        path.unlink()


def kept(folder: Path) -> list[Path]:
    """From the oldest to the newest."""
    return sorted((folder / FOLDER).glob("round-*.safetensors"))


def oldest_round(folder: Path) -> int:
    """From which on every round can be reached without the tensors before it; 0 without snapshots."""
    paths = kept(folder)
    return int(paths[0].stem.partition("-")[2]) if paths else 0


def file_name(rounds: int) -> str:
    return f"round-{rounds:08d}.safetensors"
