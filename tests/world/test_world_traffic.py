"""Bytes: the smaller encoding travels, and who was absent pays for what it missed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.messages import PrivateStep, SharedStep
from zorba_ray.methods import Traffic
from zorba_ray.world.traffic import Wire, step_bytes


def shared(round: int, blocks: int, directions: int) -> SharedStep:
    """Coefficients that differ from block to block."""
    c = np.arange(1, 1 + blocks * directions, dtype=np.float32).reshape(blocks, directions)
    return SharedStep(round, 1.0, c)


def test_a_downlink_is_the_smaller_of_coefficients_and_scalars():
    relayed = Traffic(scalars=4)
    assert step_bytes(shared(0, blocks=6, directions=4), 20, relayed) == 6 * 4 * 4
    assert step_bytes(shared(0, blocks=24, directions=4), 3, relayed) == 3 * 4 * 4
    assert step_bytes(SharedStep(0, 1.0, np.ones((6, 4), dtype=np.float32)), 3, relayed) == 4 * 4


def test_private_noise_sends_every_participants_scalars_and_number():
    step = PrivateStep(
        0, 1.0, np.arange(5), np.ones((5, 4), dtype=np.float32), np.ones(5), np.ones((5, 6), dtype=np.bool_)
    )
    assert step_bytes(step, reports=5) == 5 * (4 + 4 * 4)


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=12))
def test_downloads_are_conserved(rounds: list[set[int]]):
    """Who is chosen has then downloaded every step of the rounds before, each once."""
    wire = Wire(clients=6)
    got = np.zeros(6, dtype=np.int64)
    total = 0
    for t, members in enumerate(rounds):
        participants = sorted(members)
        step = shared(t, blocks=3, directions=2)
        got[participants] += wire.download(participants)
        assert (got[participants] == total).all()
        wire.add(step, len(participants))
        total += step_bytes(step, len(participants))
