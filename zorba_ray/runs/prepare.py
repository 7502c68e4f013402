"""Everything a run needs before its first round, from the config alone: task, model, shards, budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation import Budgets, Instance, afforded, client_budgets, instance_from
from zorba_ray.config.files import check_complete, has_weights
from zorba_ray.config.schema import Config
from zorba_ray.engine import CLEAN, FROZEN
from zorba_ray.engine import Path as Route
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.engine.shape import model_shape
from zorba_ray.messages import BlockInfo, Header
from zorba_ray.methods import has_gradients
from zorba_ray.model import BlockModel, build_model, export_weights, hollow_model, load_model
from zorba_ray.model.batch import Batch
from zorba_ray.model.quantise import few_bits
from zorba_ray.rounds.host import Host, vectors_sha256
from zorba_ray.rounds.vram import vram_of
from zorba_ray.runs.collapse import best_guess
from zorba_ray.runs.dealt import dealt_to
from zorba_ray.runs.exposure import exposure_of
from zorba_ray.runs.precision import AUTO, at_first, chosen, precision_notes, with_precision
from zorba_ray.runs.prepared import Outline, Prepared, allocated
from zorba_ray.tasks import Task, evaluation_draw, load_task, partition
from zorba_ray.tasks.batches import make_batch, sample_batch
from zorba_ray.tasks.load import describe

MOST_LABELS = 8  # that a note tells


@dataclass(frozen=True)
class Base:
    """What every host starts from. The arrays inside travel through Ray's object store, once per node."""

    config: Config
    header: Header
    model: Any  # ModelSpec
    weights: dict[str, NDArray[Any]]
    flops: NDArray[np.float64] | None  # what a forward costs, counted once for all hosts
    task: Task
    shards: list[NDArray[np.int64]]


def load_base_model(config: Config, task: Task, hollow: bool = False) -> BlockModel:
    """The model of a run before its first round; the base that the ledger refers to. `hollow`: its shape alone."""
    loss: Literal["label_words", "vocabulary"] = "vocabulary" if config.task.loss == "vocabulary" else "label_words"
    return (hollow_model if hollow else load_model)(config.model, task.head(loss), seed=config.seed)


@dataclass(frozen=True)
class Problem:
    """What a run is about, and the allocation problem that it poses."""

    config: Config  # its precision settled
    task: Task
    model: BlockModel
    shards: list[NDArray[np.int64]]
    budgets: Budgets
    weights: NDArray[np.float64]  # w [N]
    instance: Instance
    notes: list[str]  # what of the model is not the model's own, and what labels became


def load_problem(config: Config, asked: bool = False) -> Problem:
    """Task, model, shards, budgets and the instance that they make. Who only asks needs no weights: the model is then
    hollow, unless a folder here has them."""
    column, evaluated = config.clients.partition_column, config.evaluation.data
    task = load_task(config.task, config.model, config.seed, column, evaluated, asked)
    task = replace(task, test=evaluation_draw(task.test, config.evaluation.examples, config.seed))
    shards = partition(task.train.labels, task.train.groups, config.clients, config.seed)
    config, model, told = load_trusted(config, task, shards, asked)
    samples = np.array([len(shard) for shard in shards], dtype=np.float64)
    weights = samples if config.step.weights == "samples" else np.ones_like(samples)
    budgets = client_budgets(config.clients, config.seed)
    shape = model_shape(model, config.clients.batch, task.max_tokens)
    instance = instance_from(config, shape, vram_of(config, model, task.max_tokens), budgets, weights)
    if config.allocation.coverage < 0 and not config.allocation.coverage_per_block:
        instance = afforded(instance)
    notes = [*model_notes(config, task), *label_notes(config, task), *told]
    return Problem(config, task, model, shards, budgets, weights, instance, notes)


def load_trusted(
    config: Config, task: Task, shards: Sequence[NDArray[np.int64]], asked: bool
) -> tuple[Config, BlockModel, list[str]]:
    """The model in a precision that is settled, and what few bits do to its scalars."""
    hollow = asked and not has_weights(config.model)
    model = load_base_model(at_first(config), task, hollow)
    if config.model.precision != AUTO:
        return config, model, [] if asked else precision_notes(config, task, model, shards)
    precision, model, told = chosen(config, task, model, shards, hollow)
    return with_precision(config, precision), model, told


def model_notes(config: Config, task: Task) -> list[str]:
    """What of the model is made up."""
    made_up = [f"the weights of {config.model.config} are random"] if config.model.config else []
    if task.in_words:
        why = "it has no tokenizer" if config.model.config else f"no tokenizer of {config.model.path} is at hand"
        made_up.append(f"a token is a word of the task's text, {task.max_tokens} in the longest one: {why}")
    return made_up


def label_notes(config: Config, task: Task) -> list[str]:
    """Of data of the user's own: which label became which answer."""
    if config.task.name != "files" or not task.labels:
        return []
    said = describe(config.task, "").words if task.kind in ("words", "prototype") else range(len(task.labels))
    pairs = [f"{label!r} is {answer!r}" for label, answer in zip(task.labels, said, strict=True)]
    left = [f"and {len(pairs) - MOST_LABELS} more"] if len(pairs) > MOST_LABELS else []
    return [f"labels: {', '.join([*pairs[:MOST_LABELS], *left])}; task.labels says another order"]


def prepare(config: Config, resume: Path | None = None) -> Prepared:
    """Load and allocate, all in this process."""
    base, outline = read(config)
    return allocated(config, base, outline, resume)


def read(config: Config) -> tuple[Base, Outline]:
    """Load model and data: what hosts start from, and what the driver must know of it."""
    check_complete(config.model)
    problem = load_problem(config)
    config, task, model = problem.config, problem.task, problem.model
    header = Header(
        method=config.method,
        seed=config.seed,
        noise="rademacher" if config.zo.noise == "rademacher" else "gaussian",
        base_sha256=vectors_sha256([block.vector.numpy() for block in model.blocks]),
        blocks=tuple(BlockInfo(block.name, block.noise_id, block.size) for block in model.blocks),
    )
    base = Base(config, header, model.spec, export_weights(model), model.flops, task, problem.shards)
    return base, Outline(
        header=header,
        instance=problem.instance,
        budgets=problem.budgets,
        weights=problem.weights,
        dealt=dealt_to(task.labels, task.train.labels, problem.shards),
        scales=np.array([float(block.vector.double().square().mean().sqrt()) for block in model.blocks]),
        columns=model.columns,
        test_examples=len(task.test),
        exposure=None if not task.labels else exposure_of(
            task.train, task.test, problem.shards, config.clients.partition == "natural"
        ),
        guess=best_guess(task),
        notes=[*problem.notes, *frozen_notes(base, model)],
        precision=config.model.precision,
    )


def frozen_notes(base: Base, model: BlockModel) -> list[str]:
    """Where frozen matrices are kept in few bits: what that does to the loss, with all of them so kept."""
    config = base.config
    kind = few_bits(config.model.frozen)
    if kind is None:
        return []
    clean: Route = (CLEAN,) * len(model.blocks)
    paths = [clean]
    if config.model.trainable == "full":
        paths = [clean, tuple(CLEAN if block.bits is None else FROZEN for block in model.blocks)]
    works = [Work(batch, tuple(paths)) for batch in first_batches(base)]
    losses = np.mean([outcome.losses for outcome in evaluate(model, works, base.header.noise, 1 << 30)], axis=0)
    if config.model.trainable == "full":
        full, few = losses
    else:
        whole = replace(config, model=replace(config.model, frozen="resident"))
        reference = load_base_model(whole, base.task)
        outcomes = evaluate(reference, works, base.header.noise, 1 << 30)
        full, few = np.mean([outcome.losses[0] for outcome in outcomes]), losses[0]
    return [f"frozen matrices in {kind}: the loss before round 0 is {few:.4f} with all of them so, {full:.4f} without"]


def first_batches(base: Base) -> list[Batch]:
    """Mini-batches of the first clients, to try things on."""
    size, seed = base.config.clients.batch, base.config.seed
    return [
        make_batch(base.task.train, sample_batch(shard, size, seed, n, 0), base.task)
        for n, shard in enumerate(base.shards[:2])
    ]


def build_host(base: Base, device: str, offloaded: Sequence[int] = ()) -> Host:
    """A host of its own from what the base holds; the `offloaded` blocks stay in host memory until their turn comes,
    except for training with gradients."""
    if has_gradients(base.config):
        offloaded = ()
    model = build_model(base.model, base.weights, device, offloaded)
    model.flops = base.flops
    return Host(base.config, model, base.header, base.task, base.shards)
