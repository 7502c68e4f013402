"""Published shapes of models, by the name that `model.config` takes: what their `config.json` says, without weights.

The fields are those of the family's configuration class in transformers; what is left out is that class's default.
"""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]


def opt(width: int, layers: int, heads: int, **more: Any) -> Shape:
    return {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "vocab_size": 50272, "max_position_embeddings": 2048,
        "hidden_size": width, "word_embed_proj_dim": width, "ffn_dim": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, **more,
    }  # fmt: skip


def roberta(width: int, layers: int, heads: int) -> Shape:
    return {
        "model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "vocab_size": 50265,
        "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "hidden_size": width,
        "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
    }  # fmt: skip


def llama(width: int, inner: int, layers: int, heads: int, tied: bool, positions: int, **rope: Any) -> Shape:
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": positions,
        "tie_word_embeddings": tied, "bos_token_id": 128000, "eos_token_id": 128001,
        "rope_parameters": {"rope_theta": 500000.0, **(rope or {"rope_type": "default"})},
    }  # fmt: skip


def qwen3(width: int, inner: int, layers: int, heads: int, tied: bool) -> Shape:
    return {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 151936, "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-6, "max_position_embeddings": 40960,
        "tie_word_embeddings": tied, "bos_token_id": 151643, "eos_token_id": 151645,
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
    }  # fmt: skip


LONG = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}  # fmt: skip

PUBLISHED: dict[str, Shape] = {
    "opt-125m": opt(768, 12, 12),
    "opt-350m": opt(1024, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "opt-1.3b": opt(2048, 24, 32),
    "opt-2.7b": opt(2560, 32, 32),
    "opt-6.7b": opt(4096, 32, 32),
    "opt-13b": opt(5120, 40, 40),
    "opt-30b": opt(7168, 48, 56),
    "roberta-base": roberta(768, 12, 12),
    "roberta-large": roberta(1024, 24, 16),
    "llama-3.2-1b": llama(2048, 8192, 16, 32, True, 131072, **LONG),
    "llama-3.2-3b": llama(3072, 8192, 28, 24, True, 131072, **LONG),
    "llama-3-8b": llama(4096, 14336, 32, 32, False, 8192),
    "qwen3-0.6b": qwen3(1024, 3072, 28, 16, True),
    "qwen3-1.7b": qwen3(2048, 6144, 28, 16, True),
    "qwen3-4b": qwen3(2560, 9728, 36, 32, True),
    "qwen3-8b": qwen3(4096, 12288, 36, 32, False),
}
