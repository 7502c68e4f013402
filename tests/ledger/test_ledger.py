"""The ledger: what is written is read back exactly; damage is found; base + entries = weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zorba_ray.ledger import (
    Entry,
    LedgerError,
    LedgerWriter,
    ledger_sha256,
    read_ledger,
    replay,
    truncate_ledger,
)
from zorba_ray.messages import BlockInfo, Header, PrivateStep, SharedStep, Step, TensorStep, no_step
from zorba_ray.noise import Direction, sample

BLOCKS = (BlockInfo("a", 1, 100), BlockInfo("b", 2, 33), BlockInfo("c", 3, 8))
HEADER = Header("zorba", 7, "gaussian", "ab" * 32, BLOCKS)


def shared(round: int, seed: int = 0, directions: int = 4) -> Entry:
    rng = np.random.default_rng([seed, round])
    return Entry(SharedStep(round, 1e-3, rng.standard_normal((3, directions)).astype(np.float32)), float(rng.random()))


def private(round: int, clients: int = 5) -> Entry:
    rng = np.random.default_rng(round)
    active = rng.random((clients, 3)) < 0.6
    step = PrivateStep(
        round,
        1e-3,
        np.sort(rng.choice(50, clients, replace=False)).astype(np.int64),
        rng.standard_normal((clients, 2)).astype(np.float32),
        rng.random(clients) + 0.5,
        active,
    )
    return Entry(step, 1.5)


def write(path: Path, entries: list[Entry]) -> None:
    writer = LedgerWriter(path, HEADER)
    for entry in entries:
        writer.append(entry)
    writer.close()


def same(a: Entry, b: Entry) -> bool:
    if type(a.step) is not type(b.step) or a.loss != b.loss:
        return False
    pairs = [(vars(a.step)[name], vars(b.step)[name]) for name in vars(a.step)]
    return all(np.array_equal(x, y) for x, y in pairs)


@settings(max_examples=25)
@given(kinds=st.lists(st.booleans(), max_size=6), directions=st.integers(1, 9))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, kinds: list[bool], directions: int):
    entries = [shared(t, directions=directions) if kind else private(t) for t, kind in enumerate(kinds)]
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    write(path, entries)
    ledger = read_ledger(path)
    assert ledger.header == HEADER
    assert ledger.cut == ""
    assert len(ledger.entries) == len(entries)
    assert all(same(a, b) for a, b in zip(ledger.entries, entries, strict=True))


@pytest.mark.parametrize("lost", [1, 5, 60])
def test_a_torn_tail_is_cut_and_the_run_goes_on_to_the_same_bytes(tmp_path: Path, lost: int):
    entries = [shared(t) for t in range(4)]
    write(tmp_path / "whole", entries)
    whole = (tmp_path / "whole").read_bytes()
    torn = tmp_path / "torn"
    torn.write_bytes(whole[:-lost])
    ledger = read_ledger(torn)
    assert len(ledger.entries) == 3
    assert "line 5" in ledger.cut
    writer = LedgerWriter(torn, HEADER)
    assert writer.rounds == 3
    writer.append(entries[3])
    writer.close()
    assert torn.read_bytes() == whole


@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_damaged_middle_is_refused(tmp_path_factory: pytest.TempPathFactory, where: float, flip: int):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    write(path, [shared(t) for t in range(4)])
    data = bytearray(path.read_bytes())
    last = data.rindex(b"\n", 0, len(data) - 1)
    position = int(where * last)
    data[position] ^= flip
    path.write_bytes(bytes(data))
    with pytest.raises(LedgerError, match=r"damaged at line"):
        read_ledger(path)


def test_entries_cannot_be_reordered_or_dropped(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    write(path, [shared(t) for t in range(4)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], lines[4]]))
    with pytest.raises(LedgerError, match="line 3"):
        read_ledger(path)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(LedgerError, match="line 3"):
        read_ledger(path)


def test_an_entry_names_no_file_but_its_own(tmp_path: Path):
    """A ledger from somebody else may be sealed as well as any."""
    writer = LedgerWriter(tmp_path / "ledger.jsonl", HEADER)
    body = {"round": 0, "lr": 1.0, "loss": 1.0, "sha256": "", "blocks": [True] * 3, "whole": False, "residual": None}
    writer._write({**body, "tensors": "../../private.safetensors"})
    writer.close()
    with pytest.raises(LedgerError, match="is no file of its tensors"):
        read_ledger(writer.path)


def test_another_runs_ledger_is_not_continued(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    write(path, [shared(0)])
    other = Header("zorba", 8, "gaussian", HEADER.base_sha256, HEADER.blocks)
    with pytest.raises(LedgerError, match="another run"):
        LedgerWriter(path, other)


def test_truncation_keeps_a_prefix(tmp_path: Path):
    entries = [shared(t) for t in range(5)]
    write(tmp_path / "five", entries)
    write(tmp_path / "two", entries[:2])
    truncate_ledger(tmp_path / "five", read_ledger(tmp_path / "five"), 2)
    assert ledger_sha256(tmp_path / "five") == ledger_sha256(tmp_path / "two")


def test_replay_in_parts_equals_replay_at_once(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    base = [torch.randn(block.size) for block in HEADER.blocks]
    steps: list[Step] = [(shared(t) if t % 2 else private(t)).step for t in range(6)]
    steps[3] = TensorStep(3, 1.0, (False, True, False), {1: np.ones(HEADER.blocks[1].size, dtype=np.float32)})
    steps[4] = no_step(4, 0.1, 3)
    at_once = [vector.clone() for vector in base]
    monkeypatch.setattr(import_module("zorba_ray.ledger.replay"), "AT_ONCE", 2)
    replay(at_once, HEADER, steps)
    in_parts = [vector.clone() for vector in base]
    for step in steps:
        replay(in_parts, HEADER, [step])
    assert all(torch.equal(a, b) for a, b in zip(at_once, in_parts, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(at_once, base, strict=True))


def test_a_step_moves_only_the_blocks_it_has_coefficients_for():
    base = [torch.randn(block.size) for block in HEADER.blocks]
    coefficients = np.zeros((3, 2), dtype=np.float32)
    coefficients[1] = [0.5, -0.25]
    moved = [vector.clone() for vector in base]
    replay(moved, HEADER, [SharedStep(0, 1e-2, coefficients)])
    assert torch.equal(moved[0], base[0])
    assert not torch.equal(moved[1], base[1])
    assert torch.equal(moved[2], base[2])


def test_a_private_step_is_the_weighted_mean_over_a_blocks_clients():
    """Against the formula, written out with the reference generator."""
    entry = private(3)
    step = entry.step
    assert isinstance(step, PrivateStep)
    for column, block in enumerate(HEADER.blocks):
        vector = torch.zeros(block.size)
        expected = np.zeros(block.size)
        members = np.flatnonzero(step.active[:, column])
        for i in members:
            for p in range(2):
                direction = Direction(seed=7, round=3, direction=p, client=int(step.clients[i]) + 1)
                z = sample(direction, block.noise_id, block.size, "gaussian")
                share = step.weights[i] / step.weights[members].sum()
                expected -= step.lr / 2 * share * float(step.scalars[i, p]) * z
        vectors = [vector if c == column else torch.zeros(b.size) for c, b in enumerate(HEADER.blocks)]
        replay(vectors, HEADER, [step])
        np.testing.assert_allclose(vector.numpy(), expected, atol=1e-8)
