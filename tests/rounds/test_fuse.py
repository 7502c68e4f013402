"""Clients in one product: who shares one, that it and its padding change no loss, and that a run stays the same run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model.tiny_models import FAMILIES, block_model, head_of, make_batch

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.engine import CLEAN, Version
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.ledger import read_ledger
from zorba_ray.methods.fit import ignored
from zorba_ray.model import BlockModel, HeadSpec
from zorba_ray.model.batch import Batch, joined
from zorba_ray.noise import Direction
from zorba_ray.records.schema import RoundRecord
from zorba_ray.records.stream import table
from zorba_ray.rounds.groups import bucket_of, groups_of
from zorba_ray.runs.audit import audit
from zorba_ray.runs.bound import refuse_another_run
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.resume import check_same
from zorba_ray.runs.simulate import Here, begin

SMALL = [
    "clients.count=9", "clients.batch=4", "rounds=3", "zo.directions=2", "seed=5", "allocation.plan=cyclic",
    "evaluation.every=3", "evaluation.examples=32", "task.train_examples=200", "task.test_examples=40",
]  # fmt: skip


def config_of(*keys: str) -> Config:
    return load_config(None, [*SMALL, *keys])


def run(folder: Path, *keys: str, resume: bool = False, stop_after: int | None = None) -> bytes:
    simulation = begin(config_of(*keys), folder, resume, Here())
    try:
        for event in simulation.events:
            if isinstance(event, RoundRecord) and event.round + 1 == stop_after:
                break
    finally:
        simulation.finish(interrupted=stop_after is not None)
    return (folder / LEDGER).read_bytes()


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 6), st.randoms())
def test_everybody_is_in_one_group_of_a_row_and_whole_groups_make_themselves_again(rows, fuse, random):
    active = np.array([[row & 1, row & 2] for row in rows], dtype=np.bool_).reshape(-1, 2)
    groups = groups_of(active, fuse)
    assert sorted(i for group in groups for i in group) == list(range(len(rows)))
    for group in groups:
        assert len(set(map(bytes, active[group]))) == 1 and len(group) <= fuse and (np.diff(group) > 0).all()
    short = [bytes(active[group[0]]) for group in groups if len(group) < fuse]
    assert len(set(short)) == len(short), "one group of a row has what is left"
    given_ = np.sort(np.concatenate([np.zeros(0, np.int64), *(g for g in groups if random.random() < 0.5)]))
    again = [given_[group].tolist() for group in groups_of(active[given_], fuse)]
    assert all(members in [group.tolist() for group in groups] for members in again)


def test_buckets_are_those_that_are_stated() -> None:
    assert [bucket_of(n) for n in (1, 8, 9, 23, 64, 65, 96, 97)] == [8, 8, 16, 24, 64, 96, 96, 128]


def version(p: int) -> Version:
    return ((Direction(3, 0, p), 1e-2),)


CASES = [(family, head_of(family)) for family in FAMILIES]
CASES += [("opt", head_of("opt", "vocabulary")), ("llama", HeadSpec("language"))]


@pytest.mark.parametrize(("family", "head"), CASES, ids=[f"{family}-{head.kind}-{head.loss}" for family, head in CASES])
def test_sharing_a_product_and_padding_change_no_loss(family: str, head: HeadSpec) -> None:
    """Batches of other sizes and lengths; small memory cuts the paths of all of them alike."""
    model, pad = block_model(family, head=head), 1 if family == "roberta" else 0
    paths = ((version(0),) * len(model.blocks), (CLEAN,) * len(model.blocks))
    batches = [make_batch(rows, length, seed, pad=pad) for seed, (rows, length) in enumerate([(3, 9), (1, 6), (4, 11)])]
    if head.kind == "language":
        batches = [of_language(batch) for batch in batches]
    alone = evaluate(model, [Work(batch, paths) for batch in batches], "gaussian", 1 << 30)
    work = Work(joined(batches, pad), paths)
    together = evaluate(model, [work], "gaussian", 1 << 30)
    assert len(together) == 3
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
        assert ours.count == theirs.count and (ours.right == theirs.right).all() and ours.visits == theirs.visits
    cut = evaluate(model, [work, work], "gaussian", 1)
    assert [each.losses.tobytes() for each in cut] == 2 * [each.losses.tobytes() for each in together]


def of_language(batch: Batch) -> Batch:
    rows, cols = torch.nonzero(batch.mask[:, 1:], as_tuple=True)
    return Batch(batch.ids, batch.mask, rows, cols, batch.ids[rows, cols + 1])


def test_a_run_of_fused_clients_is_the_plain_run_to_rounding_and_resumed_and_audited_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan has three rows of three blocks, for four, three and two of the clients."""
    layer, made = BlockModel.layer, []
    monkeypatch.setattr(BlockModel, "layer", lambda *args: made.append(0) or layer(*args))
    fused, once = run(tmp_path / "fused", "clients.fuse=4"), len(made)
    run(tmp_path / "plain")
    assert len(made) - once > 2 * once
    ledgers = [read_ledger(tmp_path / name / LEDGER).entries for name in ("fused", "plain")]
    for ours, theirs in zip(*ledgers, strict=True):
        assert ours.step.coefficients == pytest.approx(theirs.step.coefficients, rel=1e-2, abs=1e-2)
    same = ("client", "round", "flops", "forwards", "bytes_up", "bytes_bus")
    rows = [table(tmp_path / name).to_pylist() for name in ("fused", "plain")]
    ours, theirs = ([[row[name] for name in same] for row in each if row["kind"] == "client"] for each in rows)
    assert ours == theirs and len(ours) == 3 * 9
    run(tmp_path / "part", "clients.fuse=4", stop_after=1)
    assert run(tmp_path / "part", "clients.fuse=4", resume=True) == fused
    assert all(audit(tmp_path / "fused", client, 1).same for client in (0, 5))


def test_auto_is_a_number_from_the_first_round_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    whole = run(tmp_path, "clients.fuse=auto")
    assert stored_config(tmp_path).clients.fuse == "3"  # nine clients: two groups for each of two cores
    with pytest.raises(ConfigError, match=r'clients\.fuse was "3" when the run was begun and is now "4"'):
        refuse_another_run(config_of("clients.fuse=4"), tmp_path)
    assert check_same(config_of("clients.fuse=auto"), tmp_path).clients.fuse == "3"
    assert run(tmp_path / "again", "clients.fuse=3") == whole


@pytest.mark.parametrize(
    ("keys", "said"),
    [(["clients.fuse=8", "placement=per_client"], "clients.fuse.*8.*placement=per_client"),
     (["clients.fuse=many"], "clients.fuse.*auto, or a number"),
     (["clients.fuse=0"], "clients.fuse.*auto, or a number")],
)  # fmt: skip
def test_what_cannot_be_fused_is_refused(keys: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(*keys)


def test_hidden_states_that_find_no_room_are_refused_with_their_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hidden states of so many clients take .*fuse at most 6, or raise it"):
        run(tmp_path, "clients.fuse=9", "runtime.hidden_memory=400 KiB")


def test_where_nothing_is_shared_that_is_said() -> None:
    for keys in (["zo.shared=false"], ["zo.local_steps=2"], ["method=fedkseed"]):
        assert any("clients.fuse has no effect" in line for line in ignored(config_of("clients.fuse=4", *keys)))
    assert not any("clients.fuse" in line for line in ignored(config_of("clients.fuse=4")))
