"""Carries out a schedule of visits: shows versions, runs stages, frees hidden states, collects losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from zorba_ray.engine.materialise import Showing
from zorba_ray.engine.trie import Forest, Node, Visit
from zorba_ray.engine.version import Version
from zorba_ray.model import BlockModel
from zorba_ray.model.forward import Context
from zorba_ray.noise import Kind
from zorba_ray.tasks.batch import Batch

Observer = Callable[[Node, Tensor], None]  # sees every hidden state as it is made


def walk(
    model: BlockModel, batches: Sequence[Batch], forest: Forest, visits: Iterable[Visit], kind: Kind,
    observer: Observer | None = None,
) -> list[dict[int, tuple[Tensor, Tensor]]]:
    """For each work: path → (mean loss, right answers), both 0-d tensors still on the model's device."""
    states: dict[Node, Tensor] = {}
    contexts: dict[int, Context] = {}
    waiting = _stems(forest)
    answers: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in batches]
    on_device: dict[int, Batch] = {}
    showing = Showing(model, kind)
    final = len(model.stages) - 1
    try:
        for visit in visits:
            node = visit.node
            block = model.stages[node.stage].block
            if block is not None:
                version: Version = forest.versions[node.stage][node.version]  # type: ignore[assignment]
                showing.show(block, version)
            if node.stage == 0:
                batch = on_device.get(node.work)
                if batch is None:
                    batch = on_device[node.work] = batches[node.work].to(model.device)
                states[node], contexts[node.work] = model.stem(batch)
            elif node.stage < final:
                assert node.parent is not None
                states[node] = model.layer(node.stage - 1, states[node.parent], contexts[node.work])
            else:
                assert node.parent is not None
                answer = model.head.answer(states[node.parent], on_device[node.work])
                for path in node.leaves:
                    answers[node.work][path] = answer
                waiting[node.work] -= len(node.leaves)
                if waiting[node.work] == 0:
                    del contexts[node.work], on_device[node.work]
            if observer is not None and node in states:
                observer(node, states[node])
            if visit.last and node.stage > 0:
                del states[node.parent]  # type: ignore[arg-type]
    finally:
        showing.base()
    assert not states and not contexts
    return answers


def _stems(forest: Forest) -> dict[int, int]:
    """Paths of each work that wait for their loss."""
    waiting: dict[int, int] = {}
    for root in forest.roots:
        stack = [root]
        while stack:
            node = stack.pop()
            waiting[node.work] = waiting.get(node.work, 0) + len(node.leaves)
            stack += node.children
    return waiting
