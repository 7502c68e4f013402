"""Finds stem, layers and tail of a model by watching one tiny forward, not by a table of names.

The layers are the list of equal modules that run one after the other and hold most parameters. What ran before the
first is the stem; what is called after the last is the tail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from zorba_ray.config.errors import ConfigError
from zorba_ray.model.hollow import same_place


@dataclass
class Parts:
    """The model's modules in the order of a forward."""

    layers: list[nn.Module]
    prefix: str  # name of the list that holds the layers
    stem: list[nn.Module]
    tail: list[nn.Module]
    returns_tuple: bool  # a layer answers with (hidden, …)


@dataclass
class _Call:
    module: nn.Module
    parent: _Call | None
    start: int
    end: int = -1
    hidden_in: Tensor | None = None
    hidden_out: Any = None


@dataclass
class _Trace:
    calls: list[_Call] = field(default_factory=list)
    stack: list[_Call] = field(default_factory=list)
    clock: int = 0

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = _Call(module, self.stack[-1] if self.stack else None, self.clock, hidden_in=_hidden(args, kwargs))
        self.clock += 1
        self.calls.append(call)
        self.stack.append(call)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = self.stack.pop()
        call.end, call.hidden_out = self.clock, output
        self.clock += 1


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    candidate = args[0] if args else kwargs.get("hidden_states")
    return candidate if isinstance(candidate, Tensor) else None


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and a.shape == b.shape and same_place(a, b)


def find_parts(module: nn.Module, ids: Tensor, mask: Tensor) -> Parts:
    """Watch a forward on `ids`, `mask` [B, T] and name its parts."""
    trace = _Trace()
    handles = [m.register_forward_pre_hook(trace.enter, with_kwargs=True) for m in module.modules()]
    handles += [m.register_forward_hook(trace.leave) for m in module.modules()]
    try:
        with torch.no_grad():
            module(input_ids=ids, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()

    prefix, layers = _layers(module, trace.calls)
    name = type(module).__name__
    if not layers:
        raise ConfigError(
            f"model.path: {name} has no list of equal layers that run one after the other; "
            "only models that are a stack of transformer blocks can be divided into blocks"
        )
    calls = [next(call for call in trace.calls if call.module is layer) for layer in layers]
    returns_tuple = isinstance(calls[0].hidden_out, tuple)
    for i, (before, after) in enumerate(pairwise(calls)):
        output = before.hidden_out[0] if returns_tuple else before.hidden_out
        if not _same(output, after.hidden_in):
            raise ConfigError(
                f"model.path: in {name}, what leaves {prefix}.{i} is not what enters {prefix}.{i + 1}; "
                "something between the layers was not recognised, so this model cannot be divided into blocks"
            )
    first, last = calls[0], calls[-1]
    around = [call for call in trace.calls if call.start < first.start and call.end > last.end]
    open_calls = {id(call) for call in around}
    outer = [call for call in trace.calls if call.parent is not None and id(call.parent) in open_calls]
    return Parts(
        layers=layers,
        prefix=prefix,
        stem=[call.module for call in outer if call.end < first.start],
        tail=[call.module for call in outer if call.start > last.end],
        returns_tuple=returns_tuple,
    )


def _layers(module: nn.Module, calls: list[_Call]) -> tuple[str, list[nn.Module]]:
    """The list of equal modules, each called once and in order, that holds most parameters."""
    starts: dict[int, list[int]] = {}
    for call in calls:
        starts.setdefault(id(call.module), []).append(call.start)
    best: tuple[int, str, list[nn.Module]] = (0, "", [])
    for name, candidate in module.named_modules():
        if not isinstance(candidate, nn.ModuleList) or len(candidate) == 0:
            continue
        members = list(candidate)
        times = [starts.get(id(member), []) for member in members]
        if len({type(member) for member in members}) != 1 or any(len(t) != 1 for t in times):
            continue
        order = [t[0] for t in times]
        size = sum(parameter.numel() for parameter in candidate.parameters())
        if order == sorted(order) and size > best[0]:
            best = (size, name, members)
    return best[1], best[2]


def parameters_of(modules: Iterable[nn.Module]) -> dict[int, nn.Parameter]:
    """Unique parameters below some modules, by identity, in order."""
    return {id(parameter): parameter for module in modules for parameter in module.parameters()}


def config_of(module: nn.Module) -> Any:
    """The transformers configuration of a model."""
    return module.config


def output_of(module: nn.Module) -> nn.Module | None:
    """The projection onto the vocabulary, where a model has one."""
    find: Any = getattr(module, "get_output_embeddings", None)
    return None if find is None else find()


def probe_batch(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Two rows of a few tokens, the second padded: enough to see masks at work."""
    config = config_of(module)
    vocabulary = int(config.vocab_size)
    pad = getattr(config, "pad_token_id", None)
    pad = 0 if pad is None else int(pad)
    length = min(6, int(getattr(config, "max_position_embeddings", 6) or 6))
    usable = [token for token in range(min(vocabulary, 64)) if token != pad]
    ids = torch.tensor([[usable[(7 * t + 3 * b + 1) % len(usable)] for t in range(length)] for b in range(2)])
    mask = torch.ones_like(ids)
    mask[1, length - 2 :] = 0
    ids[1, length - 2 :] = pad
    device = next(module.parameters()).device
    return ids.to(device), mask.to(device)
