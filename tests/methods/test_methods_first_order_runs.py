"""Runs of FedAvg and FedIT: grouping, resume, replay, files beside the ledger, presets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from methods.zeroth_runs import config_of, ledger_of, run

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import read_ledger, truncate_ledger
from zorba_ray.messages import TensorStep
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.records.stream import table
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.config import ignored
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.prepare import build_host, prepare
from zorba_ray.runs.replay import replayed_model
from zorba_ray.runs.summary import read_summary

ROOM = "clients.budgets.classes=[{name: all, share: 1, budget: 16 MiB}]"
METHOD_KEYS = {
    "fedavg": ("method=fedavg", "step.lr=1e-3", "fedavg.steps=2"),
    "fedavg-sgd-epochs": ("method=fedavg", "step.lr=1e-2", "fedavg.optimizer=sgd", "fedavg.momentum=0.9",
                          "fedavg.epochs=1", "task.train_examples=40"),
    "fedit": ("method=fedit", "step.lr=1e-2", "model.trainable=lora"),
    "fedit-exact-nf4": ("method=fedit", "step.lr=1e-2", "model.trainable=lora", "fedit.aggregate=exact",
                        "model.frozen=nf4"),
}  # fmt: skip
methods = pytest.mark.parametrize("name", METHOD_KEYS)


def config(name: str, *more: str) -> Config:
    return config_of(*METHOD_KEYS[name], ROOM, *more)


@methods
def test_reports_do_not_depend_on_who_is_asked_together(name: str) -> None:
    base = prepare(config(name)).base
    plan = plan_round(base.config, 0, range(4))
    rows = np.array([[1, 1, 0, 0, 0, 0], [1] * 6, [0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 1]], dtype=np.bool_)
    rows = rows[:, : len(base.header.blocks)]
    together = build_host(base, "cpu").probe(plan, range(4), rows)
    other = build_host(base, "cpu")
    for n in (2, 0, 3, 1):
        (alone,) = other.probe(plan, [n], rows[n : n + 1])
        assert alone.loss == together[n].loss and alone.backward_flops == together[n].backward_flops > 0
        assert alone.flops == together[n].flops and alone.upload == together[n].upload
        for a, b, on in zip(alone.vectors or (), together[n].vectors or (), rows[n], strict=True):
            assert (a is None) == (not on) == (b is None)
            assert a is None or b is None or a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ["fedavg-sgd-epochs", "fedit-exact-nf4"])
def test_a_resumed_run_is_the_run(name: str, tmp_path: Path) -> None:
    prepared = prepare(config(name))
    run(prepared, tmp_path / "whole")
    run(prepared, tmp_path / "parts", stop_after=1)
    (tmp_path / "parts" / "tensors" / "round-000001.safetensors").write_bytes(b"of a round that never was")
    run(prepare(config(name), tmp_path / "parts"), tmp_path / "parts", resume=True)
    assert ledger_of(tmp_path / "whole") == ledger_of(tmp_path / "parts")
    sha = read_summary(tmp_path / "whole").model_sha256
    assert sha == read_summary(tmp_path / "parts").model_sha256 == replayed_model(tmp_path / "parts").sha256
    assert replayed_model(tmp_path / "whole", 1).sha256 == replayed_model(tmp_path / "parts", 1).sha256 != sha


@pytest.mark.slow  # oneDNN compiles every shape anew
def test_a_run_in_few_bits_is_replayed_from_float32_tensors(tmp_path: Path) -> None:
    keys = ("model.precision=bfloat16", "fedavg.checkpointing=true", "rounds=1", "clients.count=2")
    run(prepare(config("fedavg", *keys)), tmp_path)
    summary = read_summary(tmp_path)
    assert summary.model_sha256 == replayed_model(tmp_path).sha256 != replayed_model(tmp_path, 0).sha256
    assert not [note for note in summary.notes if "scalars" in note], "nobody sends any"


def test_a_rewound_ledger_leaves_no_tensors_of_later_rounds(tmp_path: Path) -> None:
    run(prepare(config("fedavg")), tmp_path)
    truncate_ledger(tmp_path / LEDGER, read_ledger(tmp_path / LEDGER), 1)
    assert [path.name for path in (tmp_path / "tensors").iterdir()] == ["round-000000.safetensors"]


@pytest.mark.parametrize(("harm", "said"), [("remove", "is missing"), ("change", "is damaged")])
def test_tensors_that_are_not_those_of_the_ledger_are_refused(tmp_path: Path, harm: str, said: str) -> None:
    run(prepare(config("fedavg")), tmp_path)
    file = tmp_path / "tensors" / "round-000001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    if harm == "change":
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        replayed_model(tmp_path)
    assert "\n" not in str(caught.value) and file.name in str(caught.value)
    assert replayed_model(tmp_path, 1).rounds == 1  # what comes before is still there


def test_records_count_what_training_with_gradients_costs(tmp_path: Path) -> None:
    events = run(prepare(config("fedavg", "allocation.plan=one_each")), tmp_path)
    rows = [row for row in table(tmp_path).to_pylist() if row["kind"] == "client"]
    steps = [entry.step for entry in read_ledger(tmp_path / LEDGER).entries]
    sizes = [block.size for block in read_ledger(tmp_path / LEDGER).header.blocks]
    for row in rows:
        assert row["bytes_up"] in {4 * size for size in sizes} and row["active_blocks"] == 1
        assert 0 < row["backward_flops"] < 2 * row["flops"] and row["scalars"] == []
        moved = 4 * sum(s for s, on in zip(sizes, steps[0].moved(), strict=True) if on)
        which = 1  # byte: at first its own row, later which blocks changed
        assert row["bytes_down"] == which + (moved if row["round"] else 0)
    summary = read_summary(tmp_path)
    assert summary.backward_flops == pytest.approx(sum(row["backward_flops"] for row in rows))
    assert summary.ledger_bytes > 4 * sum(int(np.array(sizes)[step.moved()].sum()) for step in steps)
    last = [event for event in events if isinstance(event, EvaluationRecord)][-1]
    assert last.client_accuracy is not None and last.client_accuracy_worst is not None
    assert last.client_accuracy_worst <= last.client_accuracy <= 1
    assert summary.client_accuracy == last.client_accuracy
    assert summary.client_accuracy_worst == last.client_accuracy_worst


def test_exact_aggregation_says_what_the_rank_could_not_hold(tmp_path: Path) -> None:
    run(prepare(config("fedit-exact-nf4")), tmp_path)
    steps = [entry.step for entry in read_ledger(tmp_path / LEDGER).entries]
    for step in steps:
        assert isinstance(step, TensorStep) and step.whole and step.residual is not None and 0 <= step.residual < 1
    rounds = [row for row in table(tmp_path).to_pylist() if row["kind"] == "round"]
    assert [row["residual"] for row in rounds] == [step.residual for step in steps if isinstance(step, TensorStep)]


@pytest.mark.parametrize("stem", ["fedavg", "fedavg_sgd", "fedit", "fedit_exact", "zorba_qlora", "fedspzo_qlora"])
def test_a_preset_holds_only_keys_of_its_method_and_trains(stem: str, tmp_path: Path) -> None:
    keys = yaml.safe_load((Path(__file__).resolve().parents[2] / "configs" / "methods" / f"{stem}.yaml").read_text())
    assert set(keys) <= {"base", "method", "fedavg", "fedit", "model", "allocation"}
    made = config_of("rounds=2", "task.train_examples=32", "step.lr=1e-3", ROOM, presets=(stem,))
    assert not [line for line in ignored(made) if line.startswith(("fedavg", "fedit", "model", "zo"))]
    rounds = [event for event in run(prepare(made), tmp_path) if isinstance(event, RoundRecord)]
    assert len(rounds) == 2 and all(math.isfinite(each.loss) for each in rounds)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("model.precision=float16",), "model.precision"),
        (("model.frozen=nf4",), "model.frozen"),
        (("step.aggregate=median",), "step.aggregate"),
        (("fedavg.betas=[0.9]",), "fedavg.betas"),
        (("faults.byzantine=0.5",), "faults.byzantine"),
        (("method=fedit", "model.trainable=full"), "model.trainable"),
        (("method=fedit", "model.trainable=lora", "fedit.aggregate=exact", "step.aggregate=clipped"), "step.aggregate"),
    ],
)
def test_what_does_not_go_with_gradients_is_refused_in_one_line(keys: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        config_of("method=fedavg", *keys)
    assert "\n" not in str(caught.value)
