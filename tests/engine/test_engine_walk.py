"""The walk computes what a plain forward with explicitly perturbed weights computes, to the bit."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_models import FAMILIES, block_model, head_of, make_batch, perturbed, plain_model, with_keys

from zorba_ray.engine import CLEAN, Path, Version, count_edges, materialise
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.engine.trie import Node
from zorba_ray.model import Block, BlockModel, HeadSpec, build_model, export_weights
from zorba_ray.model import head as head_module
from zorba_ray.model.batch import Batch
from zorba_ray.model.linear import Hosted, linears
from zorba_ray.noise import Direction, combine_reference

MU = 1e-2
PLENTY = 1 << 30


def version(p: int, sign: int = 1, mu: float = MU) -> Version:
    return ((Direction(3, 0, p), sign * mu),)


def uniform(model: BlockModel, *versions: Version) -> tuple[Path, ...]:
    return tuple((chosen,) * len(model.blocks) for chosen in versions)


def plain_forward(plain: torch.nn.Module, model: BlockModel, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Hidden states entering each layer and leaving the last, and what the model answers, from its own forward."""
    layers = plain.get_submodule(model.parts.prefix)
    seen: list[torch.Tensor] = []
    handles = [layer.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for layer in layers]
    handles.append(
        layers[-1].register_forward_hook(lambda _, args, out: seen.append(out[0] if isinstance(out, tuple) else out))
    )
    with torch.no_grad():
        out = plain(input_ids=batch.ids, attention_mask=batch.mask)
    for handle in handles:
        handle.remove()
    return seen, out.last_hidden_state if model.spec.head.kind == "prototype" else out.logits


def plain_loss(model: BlockModel, batch: Batch, answer: torch.Tensor, prototype: torch.nn.Module | None) -> float:
    kind, words = model.spec.head.kind, list(model.spec.head.label_ids)
    targets = batch.targets
    if kind == "prototype":
        weight = batch.mask[..., None].float()
        mean = (answer * weight).sum(1) / weight.sum(1)
        answer = prototype(torch.nn.functional.normalize(mean, dim=-1))
    elif kind == "words":
        answer = answer[batch.rows, batch.cols]
        if model.spec.head.loss == "vocabulary":
            targets = torch.tensor(words)[targets]
        else:
            answer = answer[:, words]
    return float(torch.nn.functional.cross_entropy(answer, targets))


WORDS = [family for family in FAMILIES if head_of(family).kind == "words"]


def shows_base(block: Block) -> bool:
    return all(p.data_ptr() == b.data_ptr() for p, b in zip(block.parameters, block.base, strict=True))


@pytest.mark.parametrize(
    ("family", "loss"), [(f, "label_words") for f in FAMILIES] + [(f, "vocabulary") for f in WORDS]
)
def test_hidden_states_have_the_bits_of_a_plain_forward_on_perturbed_weights(family: str, loss: str) -> None:
    keys = with_keys(stem=True, head=True)
    model = block_model(family, keys, head_of(family, loss))
    batch = make_batch(pad=1 if family == "roberta" else 0)
    two_terms = (*version(1), (Direction(3, 0, 2, step=1), -0.5 * MU))
    paths = uniform(model, version(0), version(0, -1), CLEAN, two_terms)
    seen: dict[Node, torch.Tensor] = {}
    outcome = evaluate(model, [Work(batch, paths)], "gaussian", PLENTY, seen.__setitem__)[0]
    chains: dict[int, list[torch.Tensor]] = {}
    for node in seen:
        if node.stage == len(model.stages) - 2:
            chain, step = [], node
            while step is not None and step.stage >= 0:
                chain.insert(0, seen[step])
                step = step.parent
            for leaf in node.children:
                for path in leaf.leaves:
                    chains[path] = chain
    for i, path in enumerate(paths):
        plain = plain_model(family)
        perturbed(model, plain, list(path), "gaussian")
        hidden, answer = plain_forward(plain, model, batch)
        assert len(hidden) == len(chains[i]) == len(model.stages) - 1
        for ours, theirs in zip(chains[i], hidden, strict=True):
            assert torch.equal(ours, theirs)
        prototype = None
        if model.head.prototype is not None:
            prototype = copy.deepcopy(model.head.prototype)
            block = model.blocks[-1]
            vector = combine_reference(block.vector.numpy(), path[-1], block.noise_id, "gaussian")
            cut = prototype.weight.numel()
            start = block.size - cut - prototype.bias.numel()
            prototype.weight.data = torch.from_numpy(vector[start : start + cut]).view_as(prototype.weight)
            prototype.bias.data = torch.from_numpy(vector[start + cut :])
        assert outcome.losses[i] == pytest.approx(plain_loss(model, batch, answer, prototype), rel=1e-6)
    assert len(set(outcome.losses.tolist())) == len(paths), "every version has a loss of its own"


SHARED = {"frozen": block_model("opt"), "tied": block_model("opt", with_keys(stem=True, head=True))}
choices = st.sampled_from([CLEAN, version(0), version(0, -1), version(1)])


@settings(max_examples=25)
@given(st.sampled_from(["frozen", "tied"]), st.data())
def test_grouping_and_memory_change_no_bit(which: str, data: st.DataObject) -> None:
    model = SHARED[which]
    columns = len(model.blocks)
    works = []
    for seed in range(data.draw(st.integers(1, 4), "works")):
        batch = make_batch(data.draw(st.integers(1, 4), "rows"), data.draw(st.integers(2, 10), "length"), seed)
        works.append(Work(batch, tuple(data.draw(st.lists(st.tuples(*[choices] * columns), min_size=1, max_size=5)))))
    kind = data.draw(st.sampled_from(["gaussian", "rademacher"]))
    before = [block.vector.clone() for block in model.blocks]
    together = evaluate(model, works, kind, PLENTY)
    limit = data.draw(st.integers(1, 40_000), "memory")
    chunked = evaluate(model, works, kind, limit)
    alone = [evaluate(model, [work], kind, PLENTY)[0] for work in reversed(works)][::-1]
    single = [np.array([evaluate(model, [Work(work.batch, (path,))], kind, 1)[0].losses[0] for path in work.paths])
              for work in works]
    for a, b, c, d in zip(together, chunked, alone, single, strict=True):
        assert a.losses.tobytes() == b.losses.tobytes() == c.losses.tobytes() == d.tobytes()
        assert a.correct.tobytes() == b.correct.tobytes() == c.correct.tobytes()
    for block, vector in zip(model.blocks, before, strict=True):
        assert torch.equal(block.vector, vector), "the base is never written"
        assert shows_base(block)


def test_live_hidden_states_stay_within_the_memory() -> None:
    model = block_model("opt")
    batch = make_batch(4, 8)
    size = model.state_bytes(batch)
    works = [Work(make_batch(4, 8, seed), uniform(model, *(version(p) for p in range(6)))) for seed in range(5)]
    for states in (3, 5, 12):
        alive: dict[int, int] = {}
        totals: list[int] = []

        def watch(node: Node, hidden: torch.Tensor, alive: dict[int, int] = alive, totals: list[int] = totals) -> None:
            alive[id(hidden)] = hidden.numel() * 4
            weakref.finalize(hidden, alive.pop, id(hidden), None)
            totals.append(sum(alive.values()))

        evaluate(model, works, "gaussian", states * size, watch)
        assert 0 < max(totals) <= states * size and not alive


def test_masked_blocks_show_their_base_throughout() -> None:
    model = block_model("opt")
    masked = model.blocks[1]
    shown = []
    handle = model.parts.layers[1].register_forward_pre_hook(
        lambda *_: shown.append(shows_base(masked))
    )
    paths = tuple((version(p), CLEAN, version(p)) for p in range(3))
    evaluate(model, [Work(make_batch(), paths)], "gaussian", PLENTY)
    handle.remove()
    assert shown == [True] * 4  # recorded once with the stem, then run on three paths


def test_an_error_in_the_middle_leaves_the_base_in_place() -> None:
    model = block_model("opt")
    handle = model.parts.layers[2].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError("accident")))
    with pytest.raises(KeyError):
        evaluate(model, [Work(make_batch(), uniform(model, version(0)))], "gaussian", PLENTY)
    handle.remove()
    for block in model.blocks:
        assert shows_base(block)


def test_language_modelling_over_many_positions() -> None:
    model, plain = block_model("llama", head=HeadSpec("language")), plain_model("llama")
    batch = make_batch(4, 9)
    rows, cols = torch.nonzero(batch.mask[:, 1:], as_tuple=True)
    batch = Batch(batch.ids, batch.mask, rows, cols, batch.ids[rows, cols + 1])
    clean = Work(batch, ((CLEAN,) * 3,))
    whole = evaluate(model, [clean], "gaussian", PLENTY)[0]
    with torch.no_grad():
        logits = plain(input_ids=batch.ids, attention_mask=batch.mask).logits[rows, cols]
    assert whole.losses[0] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, batch.targets)), rel=1e-6)
    assert whole.correct[0] == int((logits.argmax(-1) == batch.targets).sum()) and whole.count == len(rows)
    limit = head_module.LOGIT_BYTES
    try:
        head_module.LOGIT_BYTES = 4 * 61 * 3  # three positions at a time
        sliced = evaluate(model, [clean], "gaussian", PLENTY)[0]
    finally:
        head_module.LOGIT_BYTES = limit
    assert sliced.losses[0] == pytest.approx(whole.losses[0], rel=1e-6) and sliced.correct == whole.correct


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_offloaded_blocks_give_the_same_bits(precision: str) -> None:
    keys = with_keys(precision=precision)
    resident = block_model("opt", keys)
    streamed = build_model(resident.spec, export_weights(resident), offloaded={0, 2})
    assert [block.offloaded for block in streamed.blocks] == [True, False, True]
    paths = tuple((CLEAN, version(p), version(p) if p else CLEAN) for p in range(3))
    works = [Work(make_batch(seed=seed), paths) for seed in range(2)]
    for a, b in zip(*(evaluate(m, works, "gaussian", PLENTY) for m in (resident, streamed)), strict=True):
        assert a.losses.tobytes() == b.losses.tobytes()
    assert all(shows_base(block) for block in streamed.blocks)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_streamed_active_blocks_and_the_matrices_under_adapters_give_the_same_bits(
    precision: str, trainable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a block comes in several slices."""
    monkeypatch.setattr(materialise, "SLICE", 1000)
    resident = block_model("gpt2", with_keys(precision=precision, trainable=trainable))
    spec = replace(resident.spec, config=replace(resident.spec.config, active="offload"))
    streamed = build_model(spec, export_weights(resident), offloaded=range(3))
    streamed.hold([True, True, False])
    assert all(block.offloaded for block in streamed.blocks)
    stored = [linear.stored for linear in linears(streamed.parts.layers)]
    assert any(isinstance(each, Hosted) for each in stored) == (trainable == "lora")
    work = [Work(make_batch(), ((version(0), version(1), CLEAN), (CLEAN, version(2), CLEAN)))]
    losses = [evaluate(model, work, "gaussian", PLENTY)[0].losses.tobytes() for model in (resident, streamed)]
    assert losses[0] == losses[1]
    again = export_weights(build_model(spec, export_weights(streamed)))
    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in export_weights(resident).items()
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_holding_other_blocks_for_the_next_client_changes_no_bit(precision: str) -> None:
    """One actor, clients in turn: each has its own active blocks on the device, the others in host memory."""
    model = block_model("opt", with_keys(precision=precision))
    work = Work(make_batch(seed=3), ((CLEAN, version(0), version(1)), (version(2), CLEAN, CLEAN)))
    vectors = [block.vector.clone() for block in model.blocks]
    expected = evaluate(model, [work], "gaussian", PLENTY)[0].losses.tobytes()
    for row in ((True, False, False), (False, False, False), (False, True, True), (True, True, True)):
        model.hold(row)
        assert [block.offloaded for block in model.blocks] == [not on for on in row]
        assert evaluate(model, [work], "gaussian", PLENTY)[0].losses.tobytes() == expected
        assert all(shows_base(block) for block in model.blocks)
    assert all(torch.equal(block.vector, vector) for block, vector in zip(model.blocks, vectors, strict=True))


def test_visits_are_those_that_were_made() -> None:
    """Where memory cuts a work into several tries, what is recorded grows with what is done; losses stay."""
    model = block_model("opt")
    forked = tuple((version(p), version(p), version(4 + 2 * p + j)) for p in range(2) for j in range(3))
    batch = make_batch()
    seen: list[int] = []

    def count(node: object, state: object) -> None:
        seen[-1] += 1

    found = []
    for memory in (PLENTY, 2 * model.state_bytes(batch)):
        seen.append(0)
        found += evaluate(model, [Work(batch, forked)], "gaussian", memory, count)
        assert sum(found[-1].visits[:-1]) == seen[-1] and found[-1].visits[-1] == len(forked)
    assert list(found[0].visits) == count_edges(forked, model.columns)
    assert seen[1] > seen[0] and found[0].losses.tobytes() == found[1].losses.tobytes()
