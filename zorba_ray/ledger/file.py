"""The ledger on disk: JSON lines, a header and then one entry a round, each line sealed by a hash chained to the last.

The file holds nothing that depends on where or when the run happened, so the same config and seed give the same bytes.
A torn last line (the process died while writing) is cut and reported; anything else that does not verify is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger.tensors import FOLDER, TensorFile, file_name, held_as, remove_tensors, write_tensors
from zorba_ray.messages import BlockInfo, CombinedStep, Header, PrivateStep, SharedStep, Step, TensorStep

FORMAT = 1
OPTIONAL = {"pool": "<i4", "amplitudes": "<f4", "drawn": "<i4"}  # arrays [J] that some shared steps have


class LedgerError(ConfigError):
    """The ledger on disk cannot be trusted."""


@dataclass(frozen=True)
class Entry:
    """One round: its step, and the mean loss its participants saw; NaN where nobody reported."""

    step: Step
    loss: float

    @property
    def round(self) -> int:
        return self.step.round


@dataclass(frozen=True)
class Ledger:
    """A ledger that was read: header, entries in order, what had to be cut from its end (empty: nothing), and the seals
    and sizes in bytes of its lines, the header's first."""

    header: Header
    entries: list[Entry]
    cut: str
    seals: tuple[str, ...]
    sizes: tuple[int, ...]

    def first(self, rounds: int) -> Ledger:
        """Without the entries after so many rounds."""
        lines = rounds + 1
        return Ledger(self.header, self.entries[:rounds], "", self.seals[:lines], self.sizes[:lines])


class LedgerWriter:
    """Appends sealed lines. Opening an existing ledger verifies it, unless it was just `read`, and goes on at the end
    of what is whole. `seals` has those of all lines so far."""

    def __init__(self, path: Path, header: Header, read: Ledger | None = None):
        self.path = path
        self.seals: list[str] = []
        if path.exists():
            read = read or read_ledger(path)
            if read.header != header:
                raise LedgerError(f"{path} is of another run (its base, blocks or seed differ); choose another `out`")
            self.seals += read.seals
            remove_tensors(path.parent, self.rounds)
            _truncate(path, sum(read.sizes))
            self._file = path.open("ab", buffering=0)
        else:
            self._file = path.open("xb", buffering=0)
            try:
                self._write(_header_to_json(header))
            except OSError:
                self._file.close()
                path.unlink()  # without a whole first line no run was begun, and there is nothing to go on with
                raise

    @property
    def rounds(self) -> int:
        """Entries so far; also the number of the next round."""
        return len(self.seals) - 1

    @property
    def seal(self) -> str:
        """Of the last line."""
        return self.seals[-1]

    def append(self, entry: Entry) -> Entry:
        """The entry as it is from now on: tensors are on disk, no longer in memory."""
        if isinstance(entry.step, TensorStep):
            held = write_tensors(self.path.parent, entry.round, entry.step.vectors)
            entry = replace(entry, step=replace(entry.step, held=held))
        assert entry.round == self.rounds, f"round {entry.round} cannot follow {self.rounds} entries"
        self._write(_entry_to_json(entry))
        return entry

    def close(self) -> None:
        if not self._file.closed:
            try:
                os.fsync(self._file.fileno())
            finally:
                self._file.close()

    def _write(self, body: dict[str, Any]) -> None:
        text = _text(body)
        seal = _seal(self.seals[-1] if self.seals else "", text)
        line = memoryview(f'{{"seal":"{seal}","body":{text}}}\n'.encode())
        whole = self._file.tell()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:  # the disk is full: no half line stays
            self._file.truncate(whole)
            raise
        self.seals.append(seal)


def read_ledger(path: Path) -> Ledger:
    """Read and verify a ledger."""
    if not path.is_file():
        raise LedgerError(f"no ledger at {path}; is this the folder of a run?")
    lines, cut = _sealed_lines(path)
    if not lines:
        raise LedgerError(f"{path} holds no complete line; the run ended before its first round, start it anew")
    head = json.loads(lines[0][2])
    if head.pop("zorba_ray_ledger", None) != FORMAT:
        raise LedgerError(f"{path} is not a ledger of format {FORMAT}")
    blocks = tuple(BlockInfo(**block) for block in head.pop("blocks"))
    header = Header(blocks=blocks, **head)
    entries = [_entry_from_json(json.loads(text), len(blocks), path.parent) for _, _, text in lines[1:]]
    for number, entry in enumerate(entries):
        if entry.round != number:
            raise LedgerError(f"{path}: entry {number} is of round {entry.round}; rounds must follow each other")
    return Ledger(header, entries, cut, tuple(seal for _, seal, _ in lines), tuple(len(line) for line, _, _ in lines))


def header_seal(header: Header) -> str:
    """The first seal of a ledger with this header: what files beside it name to say whose they are."""
    return _seal("", _text(_header_to_json(header)))


def has_header(path: Path) -> bool:
    """Whether a ledger was begun: without a whole first line it holds nothing."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return bool(_verified(path, [file.readline()])[0])


def count_rounds(path: Path) -> int:
    """How many rounds a ledger has; its lines are verified, their content is not looked at."""
    return len(_sealed_lines(path)[0]) - 1


def truncate_ledger(path: Path, read: Ledger, rounds: int) -> Ledger:
    """Keep the header and the first `rounds` entries of a ledger that was read; later rounds will be done again."""
    _truncate(path, sum(read.first(rounds).sizes))
    remove_tensors(path.parent, rounds)
    return read.first(rounds)


def entry_text(entry: Entry) -> str:
    """An entry as its line has it, without the seal. Equal texts are equal entries, to the bit; tensors in memory count
    as the file that they would become."""
    if isinstance(entry.step, TensorStep) and not isinstance(entry.step.held, TensorFile):
        entry = replace(entry, step=replace(entry.step, held=held_as(entry.round, entry.step.vectors)))
    return _text(_entry_to_json(entry))


def ledger_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _header_to_json(header: Header) -> dict[str, Any]:
    return {"zorba_ray_ledger": FORMAT, **asdict(header)}


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"), allow_nan=False)


def _seal(previous: str, text: str) -> str:
    return hashlib.sha256((previous + text).encode()).hexdigest()[:16]


def _sealed_lines(path: Path) -> tuple[list[tuple[bytes, str, str]], str]:
    """Verified lines as (raw bytes, seal, body text), and what was wrong with a torn last line."""
    return _verified(path, path.read_bytes().splitlines(keepends=True))


def _verified(path: Path, raw: Sequence[bytes]) -> tuple[list[tuple[bytes, str, str]], str]:
    verified: list[tuple[bytes, str, str]] = []
    seal = ""
    for number, line in enumerate(raw):
        problem = ""
        match line.partition(b'","body":'):
            case (head, mark, tail) if mark and head.startswith(b'{"seal":"') and tail.endswith(b"}\n"):
                text = tail[:-2].decode("utf-8", errors="replace")
                if head[9:].decode("ascii", errors="replace") == _seal(seal, text):
                    seal = _seal(seal, text)
                    verified.append((line, seal, text))
                    continue
                problem = "its seal does not match"
            case _:
                problem = "it is incomplete"
        if number == len(raw) - 1 and not line.endswith(b"\n"):
            return verified, f"line {number + 1} was cut: {problem}"
        raise LedgerError(
            f"{path} is damaged at line {number + 1} of {len(raw)}: {problem}; restore it from a copy, "
            f"or keep its first {number} lines to go on from there"
        )
    return verified, ""


def _truncate(path: Path, size: int) -> None:
    if path.stat().st_size > size:
        with path.open("r+b") as file:
            file.truncate(size)


def _pack(array: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode()


def _unpack(text: str, dtype: str, columns: int) -> NDArray[Any]:
    flat = np.frombuffer(base64.b64decode(text), dtype=dtype)
    return flat.reshape(-1, columns) if columns else flat


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    loss = entry.loss if math.isfinite(entry.loss) else None
    return {"round": entry.round, "lr": entry.step.lr, "loss": loss} | _step_to_json(entry.step)


def _step_to_json(step: Step) -> dict[str, Any]:
    if isinstance(step, CombinedStep):
        parts = [_step_to_json(part) for part in step.parts]
        return {"round": step.round, "lr": step.lr, "parts": parts, "shares": _pack(step.shares, "<f8")}
    if isinstance(step, TensorStep):
        assert isinstance(step.held, TensorFile), "tensors are written before their entry"
        held = {"tensors": step.held.path.name, "sha256": step.held.sha256, "blocks": list(step.blocks)}
        return {"round": step.round, "lr": step.lr, **held, "whole": step.whole, "residual": step.residual}
    columns = (step.coefficients if isinstance(step, SharedStep) else step.scalars).shape[1]
    common: dict[str, Any] = {"round": step.round, "lr": step.lr}
    common |= {"per": step.per} if step.per != columns else {}
    common |= {"origin": step.origin} if step.origin != step.round else {}
    if isinstance(step, SharedStep):
        extra = {name: getattr(step, name) for name in OPTIONAL}
        packed = {name: _pack(array, OPTIONAL[name]) for name, array in extra.items() if array is not None}
        return common | {"coefficients": _pack(step.coefficients, "<f4")} | packed
    return common | {
        "clients": _pack(step.clients, "<i8"),
        "scalars": _pack(step.scalars, "<f4"),
        "weights": _pack(step.weights, "<f8"),
        "active": _pack(np.packbits(step.active, axis=1), "u1"),
    }


def _entry_from_json(body: dict[str, Any], blocks: int, folder: Path) -> Entry:
    return Entry(_step_from_json(body, blocks, folder), math.nan if body["loss"] is None else body["loss"])


def _step_from_json(body: dict[str, Any], blocks: int, folder: Path) -> Step:
    if "tensors" in body:
        if body["tensors"] != file_name(body["round"]):
            raise LedgerError(f"round {body['round']} names {body['tensors']!r}, which is no file of its tensors")
        held = TensorFile(folder / FOLDER / body["tensors"], body["sha256"])
        return TensorStep(
            body["round"], body["lr"], tuple(body["blocks"]), held, body["whole"], body["residual"]
        )
    if "parts" in body:
        parts = [_step_from_json(part, blocks, folder) for part in body["parts"]]
        simple = tuple(part for part in parts if isinstance(part, SharedStep | PrivateStep))
        shares = _unpack(body["shares"], "<f8", 0).reshape(len(parts), blocks)
        return CombinedStep(body["round"], body["lr"], simple, shares)
    common = {"per": body.get("per", 0), "origin": body.get("origin", -1)}
    if "coefficients" in body:
        columns = len(base64.b64decode(body["coefficients"])) // (4 * blocks)
        extra: dict[str, Any] = {name: _unpack(body[name], OPTIONAL[name], 0) for name in OPTIONAL if name in body}
        coefficients = _unpack(body["coefficients"], "<f4", columns)
        return SharedStep(body["round"], body["lr"], coefficients, **common, **extra)
    clients = _unpack(body["clients"], "<i8", 0)
    scalars = _unpack(body["scalars"], "<f4", len(base64.b64decode(body["scalars"])) // (4 * clients.size))
    bits = _unpack(body["active"], "u1", -(-blocks // 8))
    active = np.unpackbits(bits, axis=1, count=blocks).astype(np.bool_)
    weights = _unpack(body["weights"], "<f8", 0)
    return PrivateStep(body["round"], body["lr"], clients, scalars, weights, active, **common)
