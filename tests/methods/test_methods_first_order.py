"""FedAvg and FedIT against their definitions, written down once more with plain transformers and NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model.tiny_models import block_model, make_batch, plain_model, with_keys
from torch.utils.flop_counter import FlopCounterMode

from zorba_ray.config.schema import LoraConfig
from zorba_ray.engine.backward import backward_flops, gradients
from zorba_ray.engine.cost import MORE
from zorba_ray.engine.plain import plain_loss
from zorba_ray.messages import Report, RoundPlan, Rule, TensorStep
from zorba_ray.methods import LocalOptions, fedavg, fedit
from zorba_ray.methods.training import train_locally
from zorba_ray.model import BlockModel
from zorba_ray.model.batch import Batch
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.config import load_config
from zorba_ray.tasks.batches import epoch_batches

WORDS = [7, 11]
EVERYTHING = np.ones(3, dtype=np.bool_)


def plan_with(local: LocalOptions, lr: float = 1e-2, **more: object) -> RoundPlan:
    from dataclasses import replace

    return replace(plan_round(load_config(None, ["method=fedavg"]), 0), lr=lr, options=local, **more)  # type: ignore[arg-type]


def reference(
    family: str, batches: list[Batch], local: LocalOptions, lr: float, layers: list[int]
) -> dict[str, torch.Tensor]:
    """What training the transformers model itself changes, by name."""
    module = plain_model(family)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    tuned = {name: p for name, p in module.named_parameters() if any(f"layers.{i}." in name for i in layers)}
    matrices = [p for p in tuned.values() if p.dim() == 2]
    others = [p for p in tuned.values() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": local.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if local.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=lr, betas=tuple(local.betas), eps=local.eps)
    else:
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=local.momentum)
    for batch in batches:
        logits = module(input_ids=batch.ids, attention_mask=batch.mask).logits[batch.rows, batch.cols][:, WORDS]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.double(), batch.targets).backward()
        optimizer.step()
    return {name: p.detach() - before[name] for name, p in module.named_parameters()}


def by_name(model: BlockModel, vectors: tuple[np.ndarray | None, ...]) -> dict[str, torch.Tensor]:
    found = {}
    for block, vector in zip(model.blocks, vectors, strict=True):
        if vector is not None:
            views = [torch.from_numpy(vector)[s : s + v.numel()].view(v.shape)
                     for s, v in zip(block.starts, block.base, strict=True)]  # fmt: skip
            found.update(zip(block.names, views, strict=True))
    return found


@pytest.mark.parametrize("family", ["opt", "llama"])
@pytest.mark.parametrize("layers", [[0, 1, 2], [1]])
@pytest.mark.parametrize("local", [
    LocalOptions(weight_decay=0.1, eps=1e-4), LocalOptions(betas=[0.8, 0.95], eps=1e-4),
    LocalOptions(optimizer="sgd", momentum=0.9, weight_decay=0.01),
])  # fmt: skip
def test_local_training_is_that_of_the_plain_model(family: str, layers: list[int], local: LocalOptions) -> None:
    model, batches = block_model(family), [make_batch(4, 9, seed=k) for k in range(3)]
    row = np.isin(np.arange(3), layers)
    update = train_locally(model, plan_with(local), row, batches)
    assert [vector is not None for vector in update.vectors] == row.tolist()
    expected = reference(family, batches, local, 1e-2, layers)
    changes = by_name(model, update.vectors)
    start = {n: v for b in model.blocks for n, v in zip(b.names, b.base, strict=True)}
    for name, change in changes.items():
        if "k_proj.bias" in name:  # softmax does not see it: its gradient is rounding, which AdamW makes large
            continue
        gap, size = float((change - expected[name]).norm()), float(expected[name].norm())
        once = 2.0**-24 * float((start[name] + expected[name]).norm())  # of the trained weights, in float32
        rounding = len(batches) * once  # each step rounds them
        assert gap <= 1e-6 * size + rounding, name
        assert size > 0
    assert all(not change.any() for name, change in expected.items() if name not in changes)


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_training_leaves_the_model_as_it_was_to_the_bit(trainable: str) -> None:
    model, batch = block_model("opt", with_keys(trainable=trainable)), make_batch()
    before = [block.vector.clone() for block in model.blocks]
    loss = plain_loss(model, batch)
    first = train_locally(model, plan_with(LocalOptions()), EVERYTHING, [batch, make_batch(seed=1)])
    assert all(torch.equal(block.vector, kept) for block, kept in zip(model.blocks, before, strict=True))
    assert torch.equal(plain_loss(model, batch), loss) and not plain_loss(model, batch).requires_grad
    again = train_locally(model, plan_with(LocalOptions()), EVERYTHING, [batch, make_batch(seed=1)])
    for a, b in zip(first.vectors, again.vectors, strict=True):
        assert a is not None and np.array_equal(a, b)  # no state of the optimiser is left from the last round


def test_a_client_without_blocks_sees_its_loss_and_sends_nothing() -> None:
    model, batch = block_model("opt"), make_batch()
    update = train_locally(model, plan_with(LocalOptions()), ~EVERYTHING, [batch, batch])
    assert update.vectors == (None, None, None) and update.backward_flops == 0
    assert update.loss == float(plain_loss(model, batch))


def reports_of(vectors: list[list[np.ndarray | None]], layout: tuple = ()) -> list[Report]:
    none = np.zeros(0, np.float32)
    return [Report(n, none, 1.0, 1, 0, 0.0, 0.0, vectors=tuple(v), layout=layout) for n, v in enumerate(vectors)]


def test_changes_are_averaged_by_samples_over_those_who_trained_a_block() -> None:
    rng = np.random.default_rng(0)
    active = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.bool_)
    vectors = [[rng.normal(size=50).astype(np.float32) if on else None for on in row] for row in active]
    weights = np.array([3.0, 1.0, 5.0])
    step = fedavg.step(plan_with(LocalOptions()), reports_of(vectors), active, weights)
    assert step.moved().tolist() == [True, True, False]
    for block in (0, 1):
        rows = np.flatnonzero(active[:, block])
        mean = np.average([vectors[n][block] for n in rows], axis=0, weights=weights[rows])
        np.testing.assert_allclose(step.vectors[block], mean, rtol=1e-6)


def test_clipping_shortens_whole_changes_before_they_are_averaged() -> None:
    rng = np.random.default_rng(1)
    active = np.ones((2, 2), dtype=np.bool_)
    vectors = [[rng.normal(size=30).astype(np.float32) * scale for _ in range(2)] for scale in (1e-3, 10.0)]
    plan = plan_with(LocalOptions(), aggregate=Rule("clipped", clip_norm=1.0))
    step = fedavg.step(plan, reports_of(vectors), active, np.ones(2))
    whole = np.concatenate(vectors[1])
    expected = (np.concatenate(vectors[0]) + whole / np.linalg.norm(whole.astype(np.float64))) / 2
    np.testing.assert_allclose(np.concatenate([step.vectors[0], step.vectors[1]]), expected, rtol=1e-5)


def adapters(model: BlockModel, vector: np.ndarray, block: int) -> dict[str, np.ndarray]:
    views = by_name(model, tuple(vector if i == block else None for i in range(len(model.blocks))))
    return {name: view.numpy().astype(np.float64) for name, view in views.items()}


def trained_adapters() -> tuple[BlockModel, list[Report], np.ndarray, RoundPlan]:
    model = block_model("llama", with_keys(trainable="lora", lora=LoraConfig(rank=2)))
    with torch.no_grad():
        for block in model.blocks:  # B is no longer zero
            block.vector.add_(0.1 * torch.randn(block.size, generator=torch.Generator().manual_seed(block.index)))
    plan = plan_with(fedit.Options(aggregate="exact"), lr=0.05)
    updates = [fedit.train(model, plan, n, EVERYTHING, [make_batch(seed=n)]) for n in range(3)]
    reports = reports_of([list(update.vectors) for update in updates], updates[0].layout)
    return model, reports, np.array([1.0, 2.0, 4.0]), plan


def products(model: BlockModel, vector: np.ndarray, block: int) -> dict[str, np.ndarray]:
    """ΔW = B A of every adapted matrix."""
    found = adapters(model, vector, block)
    return {name: found[name.replace("lora_A", "lora_B")] @ a for name, a in found.items() if "lora_A" in name}


def test_exact_averages_what_adapters_add_and_separate_does_not() -> None:
    model, reports, weights, plan = trained_adapters()
    exact = fedit.step(plan, reports, np.ones((3, 3), dtype=np.bool_), weights)
    assert exact.whole
    lost = whole = gap_exact = gap_separate = 0.0
    for block in range(3):
        sent = [products(model, report.vectors[block], block) for report in reports]  # type: ignore[index]
        got = products(model, exact.vectors[block], block)
        separate = fedavg.averaged([report.vectors[block] for report in reports], [1.0] * 3, weights)  # type: ignore[index]
        naive = products(model, separate, block)
        for name in got:
            mean = sum(w * each[name] for w, each in zip(weights, sent, strict=True)) / weights.sum()
            u, s, vt = np.linalg.svd(mean)
            np.testing.assert_allclose(got[name], (u[:, :2] * s[:2]) @ vt[:2], atol=1e-6 * s[0])
            lost, whole = lost + (s[2:] ** 2).sum(), whole + (s**2).sum()
            gap_exact += np.square(got[name] - mean).sum()
            gap_separate += np.square(naive[name] - mean).sum()
    assert exact.residual == pytest.approx(np.sqrt(lost / whole), rel=1e-4)
    assert gap_exact < gap_separate


def test_separate_averages_the_factors() -> None:
    model, _, weights, plan = trained_adapters()
    from dataclasses import replace

    plan = replace(plan, options=fedit.Options())
    updates = [fedit.train(model, plan, n, EVERYTHING, [make_batch(seed=n)]) for n in range(3)]
    reports = reports_of([list(update.vectors) for update in updates])
    step = fedit.step(plan, reports, np.ones((3, 3), dtype=np.bool_), weights)
    mean = np.average([update.vectors[1] for update in updates], axis=0, weights=weights)
    np.testing.assert_allclose(step.vectors[1], mean, rtol=1e-5, atol=1e-9)


def test_of_equal_clients_exact_changes_nothing_of_the_product() -> None:
    model, reports, weights, plan = trained_adapters()
    same = reports_of([list(reports[0].vectors or ())] * 3, reports[0].layout)
    step = fedit.step(plan, same, np.ones((3, 3), dtype=np.bool_), weights)
    assert step.residual == pytest.approx(0.0, abs=1e-6)
    for name, product in products(model, step.vectors[0], 0).items():
        np.testing.assert_allclose(product, products(model, reports[0].vectors[0], 0)[name], atol=1e-7)  # type: ignore[index]


def test_an_epoch_is_a_pass_over_the_clients_data() -> None:
    shard = np.array([3, 5, 8, 13, 21, 34, 55])
    passes = [epoch_batches(shard, 3, 0, 1, 2, epoch) for epoch in range(2)]
    assert all(sorted(np.concatenate(each).tolist()) == shard.tolist() for each in passes)
    assert [len(batch) for batch in passes[0]] == [3, 3, 1]
    assert np.concatenate(passes[0]).tolist() != np.concatenate(passes[1]).tolist()


@pytest.mark.parametrize("row", [[1, 1, 1], [0, 1, 1], [1, 0, 0]])
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_backward_flops_are_counted_on_the_real_backward(trainable: str, row: list[int]) -> None:
    model, batch = block_model("llama", with_keys(trainable=trainable)), make_batch(5, 11)
    active = np.array(row, dtype=np.bool_)
    with gradients(model, active):
        loss = plain_loss(model, batch)
        with FlopCounterMode(display=False, custom_mapping=MORE) as counter:
            loss.backward()
    assert backward_flops(model, active, 5, 11) == counter.get_total_flops() > 0


def test_a_step_travels_with_its_tensors(tmp_path: Path) -> None:
    import pickle

    from zorba_ray.ledger.tensors import write_tensors

    vectors = {1: np.arange(5, dtype=np.float32)}
    step = TensorStep(3, 0.1, (False, True), write_tensors(tmp_path, 3, vectors))
    there = pickle.loads(pickle.dumps(step))
    (tmp_path / "tensors" / "round-000003.safetensors").unlink()
    assert there.vectors[1].tolist() == vectors[1].tolist() and there.moved().tolist() == [False, True]


def gradients_of(model: BlockModel, batch: Batch, checkpointing: bool = False) -> list[torch.Tensor]:
    """Of each block, in the order of its vector."""
    with gradients(model, EVERYTHING):
        plain_loss(model, batch, checkpointing).backward()  # type: ignore[no-untyped-call]
        return [torch.cat([
            (torch.zeros_like(p) if p.grad is None else p.grad).float().flatten() for p in block.parameters
        ]) for block in model.blocks]  # fmt: skip


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2", "bert"])
@pytest.mark.parametrize("keys", [{}, {"trainable": "lora", "frozen": "nf4"}])
def test_gradients_in_few_bits_are_those_of_float32_to_rounding(family: str, keys: dict[str, object]) -> None:
    whole, few = (block_model(family, with_keys(precision=precision, **keys)) for precision in ("float32", "bfloat16"))
    for model in (whole, few):
        for block in model.blocks:  # adapters that begin at zero would have half of their gradients zero
            block.vector.add_(0.05 * torch.randn(block.size, generator=torch.Generator().manual_seed(block.index)))
    batch = make_batch(6, 12)
    before = [block.vector.clone() for block in few.blocks]
    for exact, rounded in zip(gradients_of(whole, batch), gradients_of(few, batch), strict=True):
        assert float((exact - rounded).norm()) < 0.1 * float(exact.norm())
        assert not torch.equal(exact, rounded)
    assert all(torch.equal(block.vector, kept) for block, kept in zip(few.blocks, before, strict=True))
    assert {p.dtype for block in few.blocks for p in block.parameters} == {torch.float32}, "the base is back"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["opt", "llama", "bert"])
def test_checkpointing_gives_the_same_gradients(family: str, precision: str) -> None:
    model, batch = block_model(family, with_keys(precision=precision)), make_batch()
    for plain, again in zip(gradients_of(model, batch), gradients_of(model, batch, True), strict=True):
        assert torch.equal(plain, again)


def test_training_in_few_bits_moves_float32_numbers() -> None:
    """A step far below what bfloat16 resolves is made all the same, the same from first-order runs with and without
    checkpointing, and the model is left as it was."""
    model, batches = block_model("opt", with_keys(precision="bfloat16")), [make_batch(seed=k) for k in range(2)]
    before = [block.vector.clone() for block in model.blocks]
    plain, again = (
        train_locally(model, plan_with(LocalOptions(checkpointing=on), lr=1e-6), EVERYTHING, batches)
        for on in (False, True)
    )
    for block, kept, a, b in zip(model.blocks, before, plain.vectors, again.vectors, strict=True):
        assert a is not None and b is not None and torch.equal(block.vector, kept)
        np.testing.assert_array_equal(a, b)
        assert 0 < np.abs(a).max() <= 2.2e-6 and (a != 0).mean() > 0.8
    assert plain.loss == again.loss and plain.flops == again.flops
    assert plain.backward_flops < again.backward_flops < plain.backward_flops + plain.flops


@pytest.mark.parametrize("row", [[1, 1, 1], [0, 0, 1]])
def test_what_checkpointing_computes_again_is_counted(row: list[int]) -> None:
    model, batch = block_model("llama", with_keys(precision="bfloat16")), make_batch(5, 11)
    active = np.array(row, dtype=np.bool_)
    with gradients(model, active):
        loss = plain_loss(model, batch, checkpointing=True)
        with FlopCounterMode(display=False, custom_mapping=MORE) as counter:
            loss.backward()
    assert backward_flops(model, active, 5, 11, checkpointing=True) == counter.get_total_flops()
    assert counter.get_total_flops() > backward_flops(model, active, 5, 11)
