"""What travels, and that a receiver who knows the config and its messages alone can decode all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.ledger.wire import (
    decode_active,
    decode_layout,
    decode_reports,
    decode_rows,
    encode_active,
    encode_layout,
    encode_reports,
    encode_rows,
    granted,
    report_bytes,
    rows_of,
)
from zorba_ray.messages import PrivateStep, SharedStep
from zorba_ray.methods import Traffic
from zorba_ray.methods.average import MEAN, block_coefficients
from zorba_ray.world.traffic import PLAIN, Wire, step_bytes

N, L, J = 6, 9, 4


def shared(round: int, active: np.ndarray, members: list[int]) -> SharedStep:
    """A step of members with scalars of their own."""
    scalars = np.random.default_rng(round).normal(size=(N, J)).astype(np.float32)[members]
    return SharedStep(round, 1.0, coefficients(scalars, active[members], np.arange(1.0, N + 1)[members]))


def coefficients(scalars: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return block_coefficients(MEAN, rows.astype(np.int8), weights, scalars.astype(np.float64)[None])


@dataclass
class Client:
    """Decodes messages, and counts them."""

    layout: object
    row: np.ndarray
    received: int = 0

    def told_row(self, message: bytes) -> None:
        self.received += len(message)
        (self.row,) = decode_active(message, L)

    def told_layout(self, message: bytes) -> None:
        self.received += len(message)
        self.layout = decode_layout(message, L)

    def told_step(self, message: bytes) -> np.ndarray:
        self.received += len(message)
        return decode_rows(message, self.layout, J)

    def told_reports(self, message: bytes) -> np.ndarray:
        self.received += len(message)
        scalars, rows, weights, _ = decode_reports(message, L, J)
        return coefficients(scalars, rows, weights)


@given(
    plans=st.lists(st.integers(0, 2**32), min_size=1, max_size=3),
    rounds=st.lists(st.sets(st.integers(0, N - 1), min_size=1), min_size=1, max_size=8),
    relayed=st.booleans(),
    everything=st.booleans(),
)
def test_a_receiver_who_knows_only_its_messages_decodes_every_step(
    plans: list[int], rounds: list[set[int]], relayed: bool, everything: bool
) -> None:
    """The server tells a client its row and each block's layout whenever they change, then steps; client 0 comes in
    the last round and has missed all. What it decodes is what the ledger has, and what was counted is what it got."""
    traffic = Traffic(scalars=J) if relayed else PLAIN
    wire, client, before = Wire(N, traffic, [10] * L), Client(granted(L), np.ones(L, dtype=bool)), granted(L)
    active = np.ones((N, L), dtype=bool)
    for t, chosen in enumerate(rounds):
        draw = np.random.default_rng(plans[t % len(plans)])
        active = np.ones((N, L), dtype=bool) if everything else draw.random((N, L)) < 0.6
        members = sorted(chosen)
        step = shared(t, active, members)
        c, rows = step.coefficients, rows_of(step.coefficients)
        if not step.moved().any():
            wire.add(step, len(members))
            continue
        plainly = len(encode_rows(c, rows)) + (rows != before) * len(encode_layout(rows))
        if relayed and len(members) * report_bytes(L, J) < plainly:
            scalars = np.random.default_rng(t).normal(size=(N, J)).astype(np.float32)[members]
            weights = np.arange(1.0, N + 1)[members]
            got = client.told_reports(encode_reports(scalars, active[members], weights, np.array(members)))
        else:
            if rows != before:
                client.told_layout(encode_layout(rows))
                before = rows
            got = client.told_step(encode_rows(c, rows))
        assert got.tobytes() == c.tobytes()
        wire.add(step, len(members))
    if (active[0] != client.row).any():
        client.told_row(encode_active(active[:1]))
    assert (client.row == active[0]).all()
    assert wire.download([0], active).tolist() == [client.received]
    assert wire.download([0], active).tolist() == [0]


@given(st.integers(1, 700), st.integers(1, 4), st.integers(0, 2**32))
def test_layouts_come_back(blocks: int, forks: int, seed: int) -> None:
    """However many blocks and rows, strided rows among them."""
    draw = np.random.default_rng(seed)
    c = draw.integers(-2, 300, (blocks, 1)) * np.ones(4 * forks, dtype=np.float32)
    c[draw.random(blocks) < 0.5, :] *= np.arange(4 * forks) % forks == 0
    c = np.maximum(c, 0).astype(np.float32)
    rows = rows_of(c, forks)
    assert decode_layout(encode_layout(rows), blocks, forks) == rows
    assert decode_rows(encode_rows(c, rows), rows, c.shape[1]).tobytes() == c.tobytes()


def test_where_all_have_all_blocks_a_step_is_its_scalars() -> None:
    """20 bytes for five directions: no layout, no row."""
    wire = Wire(2, PLAIN, [10] * 6)
    wire.add(SharedStep(0, 1.0, np.tile(np.arange(1, 6, dtype=np.float32), (6, 1))), 2)
    assert wire.download([0], np.ones((2, 6), dtype=bool)).tolist() == [20]


def test_private_noise_sends_who_reported_with_weights_rows_and_scalars() -> None:
    step = PrivateStep(
        0, 1.0, np.arange(5), np.ones((5, 4), dtype=np.float32), np.ones(5), np.ones((5, 6), dtype=np.bool_)
    )
    assert step_bytes(step, 5, PLAIN, granted(6))[0] == 5 * (4 + 8 + 1 + 4 * 4)


def test_whole_weights_come_with_which_they_are() -> None:
    """Dense messages: a bit for each block, then the blocks that changed, once however many rounds were missed."""
    wire, everything = Wire(2, Traffic(dense=True), [10, 20, 30]), np.ones((2, 3), dtype=bool)
    c = np.ones((3, 2), dtype=np.float32) * np.array([[1], [0], [1]], dtype=np.float32)
    wire.add(SharedStep(0, 1.0, c), 1)
    wire.add(SharedStep(1, 1.0, c), 1)
    assert wire.download([0], everything).tolist() == [1 + 4 * 40]
    assert wire.download([0], everything).tolist() == [0]
