"""A forward in pieces: the stem, one layer, the tail. Together they equal the model's own forward bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zorba_ray.model.structure import Parts


@dataclass
class Context:
    """What a batch's layers are called with besides the hidden state (masks, position embeddings), layer by layer."""

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]


class _AllRecorded(Exception):
    """Ends the stem's forward once the last layer was reached."""


@contextmanager
def replaced_forwards(modules: list[nn.Module], forwards: list[Callable[..., Any]]) -> Iterator[None]:
    """Let modules run other functions for a while; restores what stood there, also a patched forward."""
    before = [module.__dict__.get("forward") for module in modules]
    for module, forward in zip(modules, forwards, strict=True):
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            if old is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = old


def run_stem(module: nn.Module, parts: Parts, ids: Tensor, mask: Tensor) -> tuple[Tensor, Context]:
    """Hidden state before the first layer [B, T, D], and the context of the layers.

    The model's own forward runs with each layer replaced by a recorder that passes the hidden state on.
    """
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    entered: list[Tensor] = []

    def record(*args: Any, **kwargs: Any) -> Any:
        if args:
            hidden, args = args[0], args[1:]
        else:
            hidden = kwargs.pop("hidden_states")
        calls.append((args, kwargs))
        entered.append(hidden)
        if len(calls) == len(parts.layers):
            raise _AllRecorded
        return (hidden,) if parts.returns_tuple else hidden

    try:
        with replaced_forwards(parts.layers, [record] * len(parts.layers)):
            module(input_ids=ids, attention_mask=mask)
    except _AllRecorded:
        return entered[0], Context(calls)
    raise AssertionError("the forward ended before its last layer")


def run_layer(parts: Parts, index: int, hidden: Tensor, context: Context) -> Tensor:
    args, kwargs = context.calls[index]
    output = parts.layers[index](hidden, *args, **kwargs)
    return output[0] if parts.returns_tuple else output  # type: ignore[no-any-return]


def run_chain(tail: list[nn.Module], hidden: Tensor) -> Any:
    """Tail of a model whose modules after the last layer simply follow one another."""
    for module in tail:
        hidden = module(hidden)
    return hidden


def run_injected(module: nn.Module, parts: Parts, hidden: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Tail of any model: its own forward on `ids`, the layers bypassed and `hidden` put in the last one's place."""
    last = len(parts.layers) - 1
    seen = 0

    def bypass(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        passed = args[0] if args else kwargs["hidden_states"]
        output = hidden if seen == last else passed
        seen += 1
        return (output,) if parts.returns_tuple else output

    with replaced_forwards(parts.layers, [bypass] * len(parts.layers)):
        return module(input_ids=ids, attention_mask=mask)
