"""Proof, at load time, that stem, layers and head are the whole model: the same bits as its own forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zorba_ray.config.errors import ConfigError
from zorba_ray.model.forward import run_chain, run_injected, run_layer, run_stem
from zorba_ray.model.head import Head
from zorba_ray.model.spec import HeadSpec
from zorba_ray.model.structure import Parts


def prove_head(module: nn.Module, parts: Parts, spec: HeadSpec, ids: Tensor, mask: Tensor) -> Head:
    """The head that, put after stem and layers, gives what the model gives; or an error that says what was not found.

    A tail of modules that follow one another is preferred; else the model's own forward is run around the hidden state.
    """
    name = type(module).__name__
    with torch.no_grad():
        out = module(input_ids=ids, attention_mask=mask)
        expected = out.last_hidden_state if spec.kind == "prototype" else out.logits
        hidden, context = run_stem(module, parts, ids, mask)
        for index in range(len(parts.layers)):
            hidden = run_layer(parts, index, hidden, context)
        tail = _chain(parts.tail, hidden, expected)
        if tail is not None:
            return Head(module, parts, spec, tail, chained=True)
        injected = run_injected(module, parts, hidden, ids, mask)
        result = injected.last_hidden_state if spec.kind == "prototype" else injected.logits
    if not _equal(result, expected):
        called = ", ".join(type(m).__name__ for m in (*parts.stem, *parts.tail))
        raise ConfigError(
            f"model.path: the layers {parts.prefix} of {name}, run one by one, do not give what its own forward gives; "
            f"recognised around them: {called}; something else happens between, so it cannot be divided into blocks"
        )
    return Head(module, parts, spec, parts.tail, chained=False)


def _chain(tail: list[nn.Module], hidden: Tensor, expected: Tensor) -> list[nn.Module] | None:
    """The beginning of `tail` after which the hidden state has become `expected`, if there is one."""
    for end in range(len(tail), -1, -1):
        try:
            result = run_chain(tail[:end], hidden)
        except (RuntimeError, TypeError, AttributeError, ValueError, IndexError):
            continue
        if isinstance(result, Tensor) and _equal(result, expected):
            return tail[:end]
    return None


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
