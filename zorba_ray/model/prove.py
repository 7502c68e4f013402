"""Proof, at load time, that stem, layers and head are the whole model: the same bits as its own forward, or, of a model
without numbers, the same operations in the same order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zorba_ray.config.errors import ConfigError
from zorba_ray.model.forward import run_chain, run_injected, run_layer, run_stem
from zorba_ray.model.head import Head
from zorba_ray.model.hollow import Operation, Operations, is_hollow
from zorba_ray.model.spec import HeadSpec
from zorba_ray.model.structure import Parts

UNFIT = (RuntimeError, TypeError, AttributeError, ValueError, IndexError)  # of modules that do not follow one another


def prove_head(module: nn.Module, parts: Parts, spec: HeadSpec, ids: Tensor, mask: Tensor) -> Head:
    """The head that, put after stem and layers, gives what the model gives; or an error that says what was not found.

    A tail of modules that follow one another is preferred; else the model's own forward is run around the hidden state.
    """
    if is_hollow(module):
        return _prove_hollow(module, parts, spec, ids, mask)
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
        raise _differs(module, parts)
    return Head(module, parts, spec, parts.tail, chained=False)


def _prove_hollow(module: nn.Module, parts: Parts, spec: HeadSpec, ids: Tensor, mask: Tensor) -> Head:
    with torch.no_grad():
        with Operations() as whole:
            out = module(input_ids=ids, attention_mask=mask)
        expected = out.last_hidden_state if spec.kind == "prototype" else out.logits
        with Operations() as pieces:
            hidden, context = run_stem(module, parts, ids, mask)
            for index in range(len(parts.layers)):
                hidden = run_layer(parts, index, hidden, context)
        count = len(pieces.done)
        if whole.done[:count] != pieces.done:
            raise _differs(module, parts)
        left = whole.until(expected)[count:]
        for end in range(len(parts.tail), -1, -1):
            if _operations(parts.tail[:end], hidden) == left:
                return Head(module, parts, spec, parts.tail[:end], chained=True)
    return Head(module, parts, spec, parts.tail, chained=False)


def _operations(tail: list[nn.Module], hidden: Tensor) -> list[Operation] | None:
    """What modules do that follow one another; None where they cannot."""
    trace = Operations()
    with trace:
        try:
            run_chain(tail, hidden)
        except UNFIT:
            return None
    return trace.done


def _differs(module: nn.Module, parts: Parts) -> ConfigError:
    called = ", ".join(type(m).__name__ for m in (*parts.stem, *parts.tail))
    return ConfigError(
        f"model.path: the layers {parts.prefix} of {type(module).__name__}, run one by one, do not give what its own "
        f"forward gives; recognised around them: {called}; something else happens between, so it cannot be divided "
        f"into blocks"
    )


def _chain(tail: list[nn.Module], hidden: Tensor, expected: Tensor) -> list[nn.Module] | None:
    """The beginning of `tail` after which the hidden state has become `expected`, if there is one."""
    for end in range(len(tail), -1, -1):
        try:
            result = run_chain(tail[:end], hidden)
        except UNFIT:
            continue
        if isinstance(result, Tensor) and _equal(result, expected):
            return tail[:end]
    return None


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
