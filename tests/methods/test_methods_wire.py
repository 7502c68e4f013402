"""What travels: messages that say everything, in the bytes that are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from methods.zeroth_runs import config_of, host_of, run
from methods.zeroth_toy import plan_of, run_round, start

from zorba_ray.config.schema import Config
from zorba_ray.ledger.wire import (
    decode_indices,
    decode_reports,
    encode_indices,
    encode_private,
    encode_shared,
    granted,
    report_bytes,
    rows_of,
)
from zorba_ray.messages import PrivateStep, Report, SharedStep, Step, no_step
from zorba_ray.methods import METHODS, Traffic
from zorba_ray.methods.fedkseed import History, draws, upload
from zorba_ray.records.stream import table
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.prepare import prepare
from zorba_ray.world.traffic import Wire, step_bytes, traffic_of

ROOMY = "clients.budgets.classes=[{name: all, budget: 16 MiB}]"


def client_rows(folder: Path) -> list[dict[str, object]]:
    return [row for row in table(folder).to_pylist() if row["kind"] == "client"]


def test_private_scalars_come_back() -> None:
    plan = plan_of("fedzo", shared=False, local_steps=2)
    step, _ = run_round(plan, start(), np.ones((3, 4), dtype=bool), np.ones(3))
    assert isinstance(step, PrivateStep)
    scalars, rows, weights, clients = decode_reports(encode_private(step), 4, 8)
    assert (clients == step.clients).all() and scalars.tobytes() == step.scalars.tobytes()
    assert (rows == step.active).all() and (weights == step.weights).all()


@given(size=st.integers(1, 70_000), data=st.data())
def test_indices_come_back_in_the_smaller_form(size: int, data: st.DataObject) -> None:
    size = min(size, 2**16)
    index = sorted(data.draw(st.sets(st.integers(0, size - 1), max_size=40)))
    message = encode_indices(np.array(index, dtype=np.int32), size)
    assert decode_indices(message, size).tolist() == index
    assert len(message) == 4 + min(2 * len(index), -(-size // 8))


def test_decomfl_costs_twenty_bytes_each_way(tmp_path: Path) -> None:
    """P = 5, one local step, all blocks: 20 B up; 20 B down for each round since the client was last here."""
    config = config_of(ROOMY, "rounds=4", "participation.clients=2", presets=("decomfl",))
    run(prepare(config), tmp_path)
    have = [0] * 4
    for row in client_rows(tmp_path):
        assert row["bytes_up"] == 20
        assert row["bytes_down"] == 20 * (row["round"] - have[row["client"]])
        have[row["client"]] = row["round"]


def test_fedzo_sends_four_bytes_a_number(tmp_path: Path) -> None:
    """Up the client's active blocks; down those that changed since it was last here and a bit for each block that says
    which, and once its own row of the allocation."""
    config = config_of("method=fedzo", "zo.shared=false", "zo.local_steps=2", "participation.clients=2", "rounds=4")
    prepared = prepare(config)
    run(prepared, tmp_path)
    active = prepared.allocator.active_in(0)
    sizes = np.array([block.size for block in prepared.outline.header.blocks])
    rows = client_rows(tmp_path)
    changed = [np.any(active[[row["client"] for row in rows if row["round"] == t]], axis=0) for t in range(4)]
    have, told = [0] * 4, set()
    for row in rows:
        n, t = row["client"], row["round"]
        assert row["bytes_up"] == 4 * sizes[active[n]].sum()
        new = np.any([np.zeros(6, bool), *changed[have[n] : t]], axis=0)
        assert row["bytes_down"] == new.any() + 4 * sizes[new].sum() + (n not in told)
        told.add(n)
        have[n] = t


FULL = np.ones((10, 6), dtype=bool)


def kseed(draw: str) -> Config:
    return config_of("zo.local_steps=200", "zo.directions=1", f"fedkseed.draw={draw}", "method=fedkseed")


def test_fedkseed_stays_below_18_kilobytes_however_much_was_missed() -> None:
    config, clients = kseed("uniform"), 10
    wire = Wire(clients, traffic_of(config), [100] * 6)
    rng = np.random.default_rng(0)
    for t in range(30):
        drawn = np.unique(np.concatenate([draws(plan_round(config, t), n, 200) for n in range(1, clients)]))
        c = np.tile(rng.standard_normal(len(drawn)).astype(np.float32), (6, 1))
        wire.add(SharedStep(t, 1e-3, c, per=1, pool=drawn.astype(np.int32)), clients - 1)
        down = wire.download(range(1, clients), FULL)
        assert (down == 4 * len(drawn)).all()
    (late,) = wire.download([0], FULL)
    assert late == 4 * 4096
    up = len(upload(plan_round(config, 30), 0, np.ones(200, dtype=np.float32)))
    assert up <= 800 and late + up < 18_000


def test_fedkseeds_upload_is_all_that_its_step_needs() -> None:
    """One number for each direction drawn, and the step sums these and nothing finer."""
    plan = plan_of("fedkseed", {"size": 5}, local_steps=12, directions=1)
    active, weights = np.ones((3, 4), dtype=bool), np.array([1.0, 2.0, 4.0])
    step, reports = run_round(plan, start(), active, weights)
    assert isinstance(step, SharedStep) and step.pool is not None
    total = np.zeros(5)
    for n, each in enumerate(reports):
        sent = np.frombuffer(upload(plan, n, each.scalars), dtype="<f4")
        total[np.unique(draws(plan, n, 12))] += weights[n] * sent.astype(np.float64)
    assert np.array_equal((total / weights.sum()).astype(np.float32)[step.pool], step.coefficients[0])


def test_a_directions_amplitude_is_a_mean_over_draws() -> None:
    """Scalars of opposite signs do not cancel, and being drawn often makes nothing large."""
    plan = plan_of("fedkseed", {"size": 2, "draw": "pro"}, local_steps=8, directions=1)
    rho = np.where(draws(plan, 0, 8) == 0, 1.0, 2.0).astype(np.float32)
    rho[np.flatnonzero(draws(plan, 0, 8) == 1)[::2]] *= -1
    report = Report(0, rho, 1.0, 1, 1, 1.0, 1.0)
    step = METHODS["fedkseed"].step(plan, [report], np.ones((1, 4), dtype=bool), np.ones(1))
    assert isinstance(step, SharedStep) and step.amplitudes is not None and step.drawn is not None
    assert step.drawn.sum() == 8 and (step.amplitudes / step.drawn).tolist() == [1.0, 2.0]
    history = History(2)
    history.add(step)
    told = history.told()
    assert told is not None and told[1] / told[0] == pytest.approx(np.e)


def test_pro_draws_travel() -> None:
    """The server draws: a participant gets its own indices, and with a step those that the others drew."""
    config = kseed("pro")
    assert traffic_of(config).drawn == 200
    pool = np.arange(0, 4096, 8, dtype=np.int32)
    c = np.ones((6, len(pool)), dtype=np.float32)
    ones = np.ones(len(pool))
    step = SharedStep(0, 1.0, c, per=1, pool=pool, amplitudes=ones.astype(np.float32), drawn=ones.astype(np.int32))
    message = encode_shared(step, rows_of(c), pool=4096)
    assert (decode_indices(message, 4096) == pool).all()
    assert len(message) == 4 + 512 + 4 * len(pool)
    wire = Wire(2, traffic_of(config), [1] * 6)
    assert wire.download([0], FULL).tolist() == [400]
    wire.add(step, 2)
    assert wire.download([0], FULL).tolist() == [400 + len(message)]


def test_reports_carry_the_length_of_their_messages() -> None:
    active = np.array([[True, False, True, True, False, False]])
    for overrides, expected in (
        (["method=zorba", "zo.directions=3"], 12),
        (["method=decomfl", "zo.directions=3", "zo.local_steps=2"], 24),
        (["method=fedspzo", "zo.directions=4"], 16),
        (["method=fedspzo", "zo.directions=4", "fedspzo.form=sequential"], 24),
        (["method=fedkseed", "fedkseed.size=1", "zo.local_steps=3"], 4),
    ):
        host = host_of(*overrides)
        assert host.probe(plan_round(host.config, 0, (0,)), [0], active)[0].upload == expected


def test_a_round_of_nobody_costs_nothing_whatever_the_methods_message() -> None:
    def own(step: Step) -> bytes:
        assert isinstance(step, SharedStep), "a method is asked for its own steps only"
        return b"x" * 7

    protocol = Traffic(encode=own)
    assert step_bytes(no_step(3, 1.0, 6), 0, protocol, granted(6))[0] == 0
    assert step_bytes(SharedStep(3, 1.0, np.ones((6, 2), dtype=np.float32)), 2, protocol, granted(6))[0] == 7


@pytest.mark.parametrize("method", ["zorba", "fedspzo"])
def test_a_downlink_never_exceeds_relayed_scalars(method: str) -> None:
    """A client that knows who took part can compute the step from everybody's scalars."""
    config = config_of(f"method={method}", "zo.directions=4")
    protocol = traffic_of(config)
    wire = Wire(4, protocol, [10] * 6)
    c = np.arange(1, 25, dtype=np.float32).reshape(6, 4)
    wire.add(SharedStep(0, 1.0, c), 2)
    assert wire.download([0], FULL).tolist() == [2 * report_bytes(6, 4)]
