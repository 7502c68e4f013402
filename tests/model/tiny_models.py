"""Random models of every family, a few thousand parameters each, and batches for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import transformers as tf
from torch import Tensor, nn

from zorba_ray.config.schema import ModelConfig
from zorba_ray.model import BlockModel, HeadSpec, ModelSpec, from_module
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Direction, Kind, combine_reference

VOCABULARY = 61
_decoder = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 40, "pad_token_id": 0}
_encoder = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "max_position_embeddings": 40, "pad_token_id": 0, "num_labels": 2}


def _configs() -> dict[str, tuple[str, tf.PreTrainedConfig]]:
    causal, classifier, bare = "AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModel"
    opt = {"vocab_size": VOCABULARY, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
           "max_position_embeddings": 40, "word_embed_proj_dim": 32, "pad_token_id": 0}
    return {
        "opt": (causal, tf.OPTConfig(**opt)),
        "opt-projected": (causal, tf.OPTConfig(**{**opt, "word_embed_proj_dim": 16, "do_layer_norm_before": False})),
        "llama": (causal, tf.LlamaConfig(**_decoder)),
        "llama-tied": (causal, tf.LlamaConfig(**_decoder, tie_word_embeddings=True)),
        "qwen2": (causal, tf.Qwen2Config(**_decoder)),
        "qwen3": (causal, tf.Qwen3Config(**_decoder, head_dim=8)),
        "gpt2": (causal, tf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=40)),
        "gpt-neox": (causal, tf.GPTNeoXConfig(**{k: v for k, v in _decoder.items() if k != "num_key_value_heads"})),
        "gemma2": (causal, tf.Gemma2Config(**_decoder, head_dim=8)),  # caps its logits after the projection
        "bert": (classifier, tf.BertConfig(**_encoder)),
        "roberta": (classifier, tf.RobertaConfig(**{**_encoder, "pad_token_id": 1})),
        "distilbert": (classifier, tf.DistilBertConfig(vocab_size=VOCABULARY, dim=32, hidden_dim=48, n_layers=3,
                                                       n_heads=4, max_position_embeddings=40)),
        "bert-prototype": (bare, tf.BertConfig(**_encoder)),
        "llama-prototype": (bare, tf.LlamaConfig(**_decoder)),
        "bert-masked": ("AutoModelForMaskedLM", tf.BertConfig(**_encoder)),
    }


FAMILIES = sorted(_configs())
CAUSAL = [f for f in FAMILIES if _configs()[f][0] == "AutoModelForCausalLM"]


def head_of(family: str, loss: str = "label_words") -> HeadSpec:
    auto = _configs()[family][0]
    if auto == "AutoModel":
        return HeadSpec("prototype", sentences=((5, 6, 7), (8, 9)))
    if auto == "AutoModelForSequenceClassification":
        return HeadSpec("classifier")
    return HeadSpec("words", label_ids=(7, 11), loss=loss)


def attention_of(family: str) -> str:
    return "eager" if family == "gemma2" else "sdpa"


def plain_model(family: str, seed: int = 0) -> nn.Module:
    """The transformers model, its weights large enough for every layer to matter, norms and biases included."""
    auto, config = _configs()[family]
    torch.manual_seed(seed)
    module = getattr(tf, auto).from_config(config, attn_implementation=attention_of(family), dtype=torch.float32)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module.eval()


def block_model(
    family: str, config: ModelConfig | None = None, head: HeadSpec | None = None, seed: int = 0
) -> BlockModel:
    auto, transformers_config = _configs()[family]
    module = plain_model(family, seed)
    spec = ModelSpec(auto, transformers_config.to_dict(), attention_of(family), "", config or ModelConfig(),
                     head or head_of(family), 0)
    return from_module(module, spec)


def make_batch(rows: int = 3, length: int = 9, seed: int = 0, labels: int = 2, pad: int = 0) -> Batch:
    """Rows of different lengths, padded on the right, one answer each at the last real token."""
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(2, VOCABULARY, (rows, length)))
    lengths = torch.from_numpy(rng.integers(2, length + 1, rows))
    mask = (torch.arange(length)[None] < lengths[:, None]).long()
    ids = torch.where(mask == 1, ids, pad)
    return Batch(ids, mask, torch.arange(rows), lengths - 1, torch.from_numpy(rng.integers(0, labels, rows)))


def perturbed(model: BlockModel, plain: nn.Module, versions: list[tuple[tuple[Direction, float], ...]], kind: Kind
              ) -> None:
    """Write base + Σ c z, made by the NumPy reference, into the parameters of an equal plain model, by name."""
    named = dict(plain.named_parameters(remove_duplicate=False))
    for block, version in zip(model.blocks, versions, strict=True):
        vector = torch.from_numpy(combine_reference(block.vector.numpy(), version, block.noise_id, kind))
        offset = 0
        for name, base in zip(block.names, block.base, strict=True):
            values = vector[offset : offset + base.numel()].view(base.shape)
            offset += base.numel()
            if not name.startswith("prototype."):
                named[name].data.copy_(values)


def with_keys(**keys: object) -> ModelConfig:
    return replace(ModelConfig(), **keys)  # type: ignore[arg-type]


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()
