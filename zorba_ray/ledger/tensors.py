"""Steps that no seed can name: float32 vectors of blocks, in safetensors files beside the ledger. No torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger.whole import whole_file
from zorba_ray.messages import Step, TensorStep, Vectors

FOLDER = "tensors"


@dataclass(frozen=True)
class TensorFile:
    """Vectors on disk; the ledger knows their digest."""

    path: Path
    sha256: str

    def load(self) -> dict[int, NDArray[np.float32]]:
        from safetensors.numpy import load

        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(
                f"{self.path} is missing, and the ledger needs it; restore it from a copy (checkpoint.tensors lets go "
                f"of the tensors of old rounds)"
            ) from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ConfigError(f"{self.path} is damaged: it is not what the ledger says; restore it from a copy")
        return {int(name): vector for name, vector in sorted(load(content).items())}


def content_of(vectors: Vectors) -> bytes:
    """The bytes of the file; blocks in their order, so that equal vectors are equal bytes."""
    from safetensors.numpy import save

    return save({f"{block:06d}": np.ascontiguousarray(vectors[block], dtype="<f4") for block in sorted(vectors)})


def held_as(round: int, vectors: Vectors) -> TensorFile:
    """The name and digest of the file that these vectors would become, which is not written."""
    return TensorFile(Path(file_name(round)), hashlib.sha256(content_of(vectors)).hexdigest())


def file_name(round: int) -> str:
    return f"round-{round:06d}.safetensors"


def write_tensors(folder: Path, round: int, vectors: Vectors) -> TensorFile:
    """Whole or not at all, into the folder of the ledger."""
    content = content_of(vectors)
    path = folder / FOLDER / file_name(round)
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as file:
        file.write(content)
    return TensorFile(path, hashlib.sha256(content).hexdigest())


def remove_tensors(folder: Path, rounds: int) -> None:
    """Remove files that no entry of the first `rounds` rounds names: those rounds will be done again."""
    known = {file_name(round) for round in range(rounds)}
    for path in (folder / FOLDER).glob("*round-*.safetensors*"):
        if path.name not in known:
            path.unlink()


def forget_tensors(folder: Path, rounds: int) -> None:
    """Remove the files of rounds before `rounds`, which a snapshot makes dispensable."""
    for path in (folder / FOLDER).glob("round-*.safetensors"):
        if path.name < file_name(rounds):
            path.unlink()


def is_gone(step: Step) -> bool:
    """Whether a step is one of tensors whose file does not lie there."""
    return isinstance(step, TensorStep) and isinstance(step.held, TensorFile) and not step.held.path.exists()


def tensor_bytes(folder: Path) -> int:
    """What lies beside a ledger."""
    return sum(path.stat().st_size for path in (folder / FOLDER).glob("round-*.safetensors"))
