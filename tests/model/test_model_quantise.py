"""Frozen matrices in few bits: how far they are from the originals, and that what is computed with them is nothing
else than the model with the dequantised numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model.tiny_models import FAMILIES, block_model, make_batch, with_keys

from zorba_ray.engine import CLEAN, FROZEN
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.engine.plain import plain_loss
from zorba_ray.model import BlockModel, build_model, export_weights, save_folder
from zorba_ray.model.linear import Linear
from zorba_ray.model.quantise import KINDS, NF4, Bits, quantise, without_numbers

kinds = pytest.mark.parametrize("kind", KINDS)
NF4_GAP = max(b - a for a, b in pairwise(NF4))


@st.composite
def matrices(draw: st.DrawFn) -> torch.Tensor:
    rows, cols = draw(st.integers(1, 40)), draw(st.integers(1, 150))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weight = torch.randn(rows, cols, generator=generator) * 10.0 ** draw(st.integers(-37, 30))
    weight[torch.rand(rows, generator=generator) < draw(st.sampled_from([0.0, 0.3]))] = 0.0
    return weight


@kinds
@given(weight=matrices())
def test_quantising_what_was_dequantised_gives_the_same_again(kind: Bits, weight: torch.Tensor) -> None:
    once = quantise(weight, kind)
    twice = quantise(once.matrix(torch.float32), kind)
    assert torch.equal(once.codes, twice.codes) and torch.equal(once.magnitude, twice.magnitude)


@kinds
@given(weight=matrices())
def test_no_value_is_further_off_than_half_a_gap_between_levels(kind: Bits, weight: torch.Tensor) -> None:
    few = quantise(weight, kind)
    error = (few.matrix(torch.float32).double() - weight.double()).abs()
    if kind == "int8":
        bound = weight.abs().amax(1, keepdim=True).double() / 254
    else:
        padded = torch.nn.functional.pad(weight.reshape(-1), (0, -weight.numel() % 64)).view(-1, 64)
        most = padded.abs().amax(1, keepdim=True).double().expand(-1, 64).reshape(-1)[: weight.numel()]
        bound = most.view(weight.shape) * NF4_GAP / 2
    assert (error <= bound * (1 + 1e-5) + 2.0**-100).all()


@kinds
@given(weight=matrices())
def test_storage_is_what_is_counted(kind: Bits, weight: torch.Tensor) -> None:
    rows, cols = weight.shape
    groups = -(-rows * cols // 64)
    by_hand = rows * cols + 4 * rows if kind == "int8" else groups * (32 + 4)
    few = quantise(weight, kind)
    assert few.bytes == by_hand == without_numbers(kind, few.shape).bytes


def test_the_levels_of_nf4_are_quantiles_of_a_normal_distribution() -> None:
    normal = torch.distributions.Normal(0.0, 1.0)
    ends = 1 - 0.5 * (1 / 32 + 1 / 30)
    upper = normal.icdf(torch.linspace(ends, 0.5, 9, dtype=torch.float64))[:-1]
    lower = -normal.icdf(torch.linspace(ends, 0.5, 8, dtype=torch.float64))[:-1]
    levels = torch.cat([lower, torch.zeros(1), upper.flip(0)]) / upper[0]
    assert torch.allclose(torch.tensor(NF4, dtype=torch.float64), levels, atol=1e-6)


def dequantised(model: BlockModel) -> BlockModel:
    """The same numbers, held in full."""
    spec = with_keys(trainable=model.spec.config.trainable, precision=model.spec.config.precision, frozen="resident")
    return build_model(replace(model.spec, config=spec), export_weights(model))


@kinds
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_quantised_base_computes_as_its_dequantised_numbers(family: str, precision: str, kind: Bits) -> None:
    model = block_model(family, with_keys(trainable="lora", frozen=kind, precision=precision))
    batch = make_batch()
    assert any(isinstance(m, Linear) and m.stored is not None for m in model.module.modules())
    assert torch.equal(plain_loss(model, batch), plain_loss(dequantised(model), batch))


@kinds
@pytest.mark.parametrize("family", ["opt", "gpt2", "llama"])
def test_gradients_of_adapters_are_those_of_the_dequantised_base(family: str, kind: Bits) -> None:
    model = block_model(family, with_keys(trainable="lora", frozen=kind))
    batch = make_batch()
    gradients = []
    for each in (model, dequantised(model)):
        leaves = [p.requires_grad_() for block in each.blocks for p in block.parameters]
        gradients.append(torch.autograd.grad(plain_loss(each, batch), leaves))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-8)
    assert any(gradient.abs().max() > 0 for gradient in gradients[0])


@kinds
def test_a_quantised_model_travels_and_is_saved_whole(kind: Bits, tmp_path: Path) -> None:
    model = block_model("opt", with_keys(trainable="lora", frozen=kind))
    again = build_model(model.spec, export_weights(model))
    assert torch.equal(plain_loss(model, make_batch()), plain_loss(again, make_batch()))
    save_folder(model, tmp_path)
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "model.safetensors")
    assert saved and all(torch.isfinite(value).all() for value in saved.values())


@kinds
@pytest.mark.parametrize("family", ["opt", "gpt2", "llama", "bert"])
def test_a_frozen_block_is_seen_in_few_bits_and_others_are_not(family: str, kind: Bits) -> None:
    model = block_model(family, with_keys(frozen=kind))
    batch = make_batch()
    paths = ((CLEAN, FROZEN, CLEAN), (FROZEN, CLEAN, FROZEN), (CLEAN,) * 3)
    found = evaluate(model, [Work(batch, paths)], "gaussian", 1 << 30)[0].losses
    for path, loss in zip(paths, found, strict=True):
        plain = block_model(family, with_keys(frozen="resident"))
        for block, version in zip(plain.blocks, path, strict=True):
            if version == FROZEN:
                for view in block.base:
                    offset = view.storage_offset()
                    if offset < block.matrix_size:
                        view.copy_(quantise(view.clone(), kind).matrix(torch.float32))
        assert float(plain_loss(plain, batch)) == loss


@kinds
def test_the_frozen_version_follows_the_weights(kind: Bits) -> None:
    model = block_model("opt", with_keys(frozen=kind))
    work = [Work(make_batch(), ((FROZEN,) * 3,))]
    before = evaluate(model, work, "gaussian", 1 << 30)[0].losses
    model.blocks[1].vector.mul_(1.5)
    model.moved()
    moved = evaluate(model, work, "gaussian", 1 << 30)[0].losses
    assert before != moved
    assert moved == evaluate(build_model(model.spec, export_weights(model)), work, "gaussian", 1 << 30)[0].losses


@kinds
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_in_host_memory_have_the_same_frozen_version(precision: str, kind: Bits) -> None:
    model = block_model("llama", with_keys(frozen=kind, precision=precision))
    streamed = build_model(model.spec, export_weights(model), offloaded={0, 2})
    work = [Work(make_batch(), ((FROZEN, CLEAN, FROZEN), (CLEAN,) * 3))]
    ours, theirs = (evaluate(each, work, "gaussian", 1 << 30)[0].losses for each in (model, streamed))
    assert ours.tobytes() == theirs.tobytes() and ours[0] != ours[1]
