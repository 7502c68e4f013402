"""Carries out a schedule of visits: shows versions, runs stages, frees hidden states, collects losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise

from torch import Tensor

from zorba_ray.engine.materialise import Showing
from zorba_ray.engine.trie import Forest, Node, Visit
from zorba_ray.engine.version import Version
from zorba_ray.model import Block, BlockModel
from zorba_ray.model.batch import Batch
from zorba_ray.model.forward import Context
from zorba_ray.noise import Kind

MANY = 3  # batches that must meet a version before packing its matrices pays

Answer = tuple[Tensor, Tensor]  # mean loss, 0-d; which answers are right, [M]
Observer = Callable[[Node, Tensor], None]  # sees every hidden state as it is made


def walk(
    model: BlockModel, batches: Sequence[Batch], forest: Forest, visits: Iterable[Visit], kind: Kind,
    observer: Observer | None = None,
) -> list[dict[int, list[Answer]]]:
    """For each work: path → the answer to each of the batches that its own joins, still on the model's device."""
    states: dict[Node, Tensor] = {}
    contexts: dict[int, Context] = {}
    waiting, rows = _census(forest, [batch.ids.numel() for batch in batches])
    answers: list[dict[int, list[Answer]]] = [{} for _ in batches]
    on_device: dict[int, Batch] = {}
    parts: dict[int, list[tuple[slice, Batch]]] = {}
    showing = Showing(model, kind)
    final = len(model.stages) - 1
    try:
        for (shown, run), (coming, _) in pairwise(chain(_runs(model, forest, visits), [(None, [])])):
            if shown is not None:
                first = run[0].node
                showing.show(*shown, rows.get((first.stage, first.version), 0))
            if coming is not None:
                showing.ahead(*coming)
            for visit in run:
                node = visit.node
                if node.stage == 0:
                    batch = on_device.get(node.work)
                    if batch is None:
                        batch = on_device[node.work] = batches[node.work].to(model.device)
                        parts[node.work] = batch.parts()
                    states[node], contexts[node.work] = model.stem(batch)
                elif node.stage < final:
                    assert node.parent is not None
                    states[node] = model.layer(node.stage - 1, states[node.parent], contexts[node.work])
                else:
                    assert node.parent is not None
                    answer = [model.head.answer(states[node.parent][i], part) for i, part in parts[node.work]]
                    for path in node.leaves:
                        answers[node.work][path] = answer
                    waiting[node.work] -= len(node.leaves)
                    if waiting[node.work] == 0:
                        del contexts[node.work], on_device[node.work], parts[node.work]
                if observer is not None and node in states:
                    observer(node, states[node])
                if visit.last and node.stage > 0:
                    del states[node.parent]  # type: ignore[arg-type]
    finally:
        showing.base()
    assert not states and not contexts
    return answers


def _runs(
    model: BlockModel, forest: Forest, visits: Iterable[Visit]
) -> Iterator[tuple[tuple[Block, Version] | None, list[Visit]]]:
    """Visits, one after the other, that one version of a block serves, and those of frozen stages that follow."""
    shown: tuple[Block, Version] | None = None
    run: list[Visit] = []
    for visit in visits:
        block = model.stages[visit.node.stage].block
        if block is not None:
            version: Version = forest.versions[visit.node.stage][visit.node.version]  # type: ignore[assignment]
            if shown is None or shown[0] is not block or shown[1] != version:
                if run:
                    yield shown, run
                shown, run = (block, version), []
        run.append(visit)
    yield shown, run


def _census(forest: Forest, tokens: Sequence[int]) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
    """Paths of each work that wait for their loss; and for (stage, version) the number of tokens that MANY batches
    with which it meets have in common.
    """
    waiting: Counter[int] = Counter()
    meets: dict[tuple[int, int], Counter[int]] = {}
    for root in forest.roots:
        stack = list(root.children)
        while stack:
            node = stack.pop()
            waiting[node.work] += len(node.leaves)
            meets.setdefault((node.stage, node.version), Counter())[tokens[node.work]] += 1
            stack += node.children
    common = {key: counter.most_common(1)[0] for key, counter in meets.items()}
    return dict(waiting), {key: rows for key, (rows, count) in common.items() if count >= MANY}
