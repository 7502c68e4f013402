"""Every family is divided into stem, layers and head that together are the model; what cannot be is refused."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from model.tiny_models import CAUSAL, FAMILIES, VOCABULARY, block_model, head_of, make_batch, plain_model, with_keys

from zorba_ray.config.errors import ConfigError
from zorba_ray.model import HeadSpec, ModelSpec, from_module


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_give_the_bits_of_the_whole(family: str) -> None:
    model, plain = block_model(family), plain_model(family)
    batch = make_batch(pad=1 if family == "roberta" else 0)
    with torch.no_grad():
        hidden, context = model.stem(batch)
        for index in range(len(model.parts.layers)):
            hidden = model.layer(index, hidden, context)
        ours = model.head.run_tail(hidden, batch.ids, batch.mask)
        output = plain(input_ids=batch.ids, attention_mask=batch.mask)
    theirs = output.last_hidden_state if model.spec.head.kind == "prototype" else output.logits
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_a_block_with_a_flat_vector(family: str) -> None:
    model = block_model(family)
    assert [block.noise_id for block in model.blocks] == [1, 2, 3]
    assert model.columns == [None, 0, 1, 2, None]
    for block, layer in zip(model.blocks, model.parts.layers, strict=True):
        own = list(layer.parameters())
        assert block.size == sum(parameter.numel() for parameter in own)
        assert block.vector.is_contiguous() and block.vector.dtype == torch.float32
        assert {parameter.data_ptr() for parameter in own} == {view.data_ptr() for view in block.base}
        one_dimensional = sum(parameter.numel() for parameter in own if parameter.dim() == 1)
        assert block.matrix_size == block.size - one_dimensional
        block.vector.fill_(0.25)
        assert all(bool((parameter == 0.25).all()) for parameter in own)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("bert-masked",)])
def test_label_words_logits_are_those_of_the_whole_vocabulary(family: str) -> None:
    model, plain = block_model(family), plain_model(family)
    batch = make_batch(rows=5, pad=1 if family == "roberta" else 0)
    with torch.no_grad():
        hidden, context = model.stem(batch)
        for index in range(len(model.parts.layers)):
            hidden = model.layer(index, hidden, context)
        ours = model.head.logits(hidden, batch)
        output = plain(input_ids=batch.ids, attention_mask=batch.mask)
    if family in CAUSAL:
        theirs = output.logits[batch.rows, batch.cols][:, list(model.spec.head.label_ids)]
    elif model.spec.head.kind == "classifier":
        theirs = output.logits
    else:
        weight = batch.mask[..., None].float()
        mean = (output.last_hidden_state * weight).sum(1) / weight.sum(1)
        prototype = model.head.prototype
        assert prototype is not None
        theirs = 20 * torch.nn.functional.normalize(mean, dim=-1) @ prototype.weight.T + prototype.bias
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_tied_stem_and_head_are_one_block_visited_twice() -> None:
    tied = block_model("llama-tied", with_keys(stem=True, head=True))
    assert [block.noise_id for block in tied.blocks] == [0, 1, 2, 3]
    assert tied.columns == [0, 1, 2, 3, 0]
    assert tied.blocks[0].size == VOCABULARY * 32 + 32  # the embedding once, and the final norm
    untied = block_model("llama", with_keys(stem=True, head=True))
    assert [block.noise_id for block in untied.blocks] == [0, 1, 2, 3, 4]
    assert untied.columns == [0, 1, 2, 3, 4]


def test_only_stem_of_a_tied_model_is_still_visited_by_the_head() -> None:
    model = block_model("opt", with_keys(stem=True))
    assert model.columns == [0, 1, 2, 3, 0]
    assert "final_layer_norm" not in " ".join(model.blocks[0].names)


def test_masked_language_model_answers_at_a_position() -> None:
    model, plain = block_model("bert-masked"), plain_model("bert-masked")
    batch = make_batch(rows=4)
    with torch.no_grad():
        hidden, context = model.stem(batch)
        for index in range(3):
            hidden = model.layer(index, hidden, context)
        ours = model.head.logits(hidden, batch)
        theirs = plain(input_ids=batch.ids, attention_mask=batch.mask).logits[batch.rows, batch.cols][:, [7, 11]]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_prototypes_begin_as_embeddings_of_the_label_sentences() -> None:
    model = block_model("bert-prototype")
    prototype = model.head.prototype
    assert prototype is not None
    torch.testing.assert_close(prototype.weight.norm(dim=1), torch.ones(2))
    assert not torch.allclose(prototype.weight[0], prototype.weight[1])
    head = block_model("bert-prototype", with_keys(head=True)).blocks[-1]
    assert head.names == ["prototype.weight", "prototype.bias"] and head.matrix_size == 0


def _refusal(module: torch.nn.Module, head: HeadSpec, auto: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_module(module, ModelSpec(auto, {}, "sdpa", "", with_keys(), head, 0))
    return str(caught.value)


def test_a_model_that_shares_one_layer_is_refused_by_name() -> None:
    config = tf.AlbertConfig(vocab_size=VOCABULARY, embedding_size=16, hidden_size=32, intermediate_size=48,
                             num_hidden_layers=3, num_attention_heads=4, num_labels=2)
    module = tf.AlbertForSequenceClassification(config)
    assert "AlbertForSequenceClassification" in _refusal(module, HeadSpec("classifier"), "AutoModel")


def test_work_between_the_layers_is_noticed() -> None:
    module = plain_model("opt")
    calls = iter(range(100))
    original = module.model.decoder.forward

    def forward(*args: object, **kwargs: object) -> object:
        scale = 1.0 + next(calls)  # differs from call to call, as hidden state elsewhere would
        handle = module.model.decoder.final_layer_norm.register_forward_pre_hook(lambda _, x: (scale * x[0] + scale,))
        try:
            return original(*args, **kwargs)
        finally:
            handle.remove()

    module.model.decoder.forward = forward
    message = _refusal(module, head_of("opt"), "AutoModelForCausalLM")
    assert "OPTForCausalLM" in message and "OPTLearnedPositionalEmbedding" in message
