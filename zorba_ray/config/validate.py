"""What a config may say: impossible values and combinations are refused before anything starts.

What only the model or the data can tell (a budget smaller than the model, a column that is not there) is checked where
they are at hand.
"""

from __future__ import annotations

import difflib
import re
import string

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.published import PUBLISHED
from zorba_ray.config.require import at_least, check_size, check_values, positive, require
from zorba_ray.config.schema import Config, ModelConfig, TaskConfig
from zorba_ray.config.units import parse_clients
from zorba_ray.config.validate_world import check_budgets, check_world

# The widths of the noise's counter (zorba_ray.noise): beyond them two directions would share their numbers.
MOST_SEED, MOST_ROUNDS, MOST_CLIENTS, MOST_DIRECTIONS = 2**64 - 1, 2**24, 2**24 - 2, 2**16
MOST_BATCH, MOST_THREADS, MOST_ALPHA = 2**20, 1024, 1e6
MOST_LR, MOST_STATISTIC = 1e6, 1e12  # beyond them the bound is no number that anything can be chosen by
LEAST_MU = 1e-8  # a weight of 0.1 in float32 is this far from the next
MOST_LOCAL_STEPS = 2**12 - 1  # the last of the noise's local steps is kept for the statistics of the allocation


def validate(config: Config) -> None:
    """ConfigError, one line, at the first value or combination that cannot be."""
    check_values(config, ())
    check_run(config)
    check_clients(config)
    check_budgets(config.clients.budgets, config.clients.count)
    check_world(config)
    check_model(config.model)
    check_task(config.task)
    check_method(config)
    check_allocation(config)
    check_stop(config)
    check_runtime(config)


def ignored(config: Config) -> list[str]:
    """Keys that are set and have no effect, one line each: not wrong, but worth saying."""
    default = type(config)()
    lines = []

    def unused(changed: bool, name: str, because: str) -> None:
        if changed:
            lines.append(f"{name} has no effect: {because}")

    clients, model = config.clients, config.model
    unused(model.lora != default.model.lora and model.trainable != "lora", "model.lora", "model.trainable is not lora")
    unused(bool(model.revision) and bool(model.config), "model.revision", "model.config names a shape, not a file")
    unused(model.rounding != default.model.rounding and model.precision == "float32", "model.rounding",
           "model.precision is float32")
    unused(bool(model.groups) and model.trainable != "groups", "model.groups", "model.trainable is not groups")
    unused(clients.alpha != default.clients.alpha and clients.partition not in ("dirichlet", "quantity"),
           "clients.alpha", f"clients.partition is {clients.partition}")
    unused(clients.pieces != default.clients.pieces and clients.partition not in ("classes", "sorted"),
           "clients.pieces", f"clients.partition is {clients.partition}")
    unused(bool(clients.partition_column) and clients.partition != "natural", "clients.partition_column",
           f"clients.partition is {clients.partition}")
    unused(config.step.final != default.step.final and config.step.schedule == "constant", "step.final",
           "step.schedule is constant")
    world = config.participation
    for name, needed in (("available", "random"), ("up", "markov"), ("down", "markov"), ("trace", "trace"),
                         ("trace_unit", "trace")):
        unused(getattr(world, name) != getattr(default.participation, name) and world.availability != needed,
               f"participation.{name}", f"participation.availability is {world.availability}")
    unused(world.choice == "samples" and parse_clients(world.clients, clients.count) == clients.count,
           "participation.choice", "everybody who is available takes part")
    unused(world.late == "keep" and world.deadline == 0 and world.over == 0, "participation.late",
           "without participation.deadline or participation.over nobody is late")
    unused((config.fleet.spread > 0 or config.fleet.jitter > 0) and not config.fleet.devices, "fleet.spread",
           "fleet.devices is empty")
    faults, step, privacy = config.faults, config.step, config.privacy
    unused(faults.lie != default.faults.lie and faults.byzantine == 0, "faults.lie", "faults.byzantine is 0")
    unused(faults.lie_scale != default.faults.lie_scale and (faults.byzantine == 0 or faults.lie != "scale"),
           "faults.lie_scale", "faults.lie is not scale, or nobody lies")
    unused(step.trim != default.step.trim and step.aggregate != "trimmed", "step.trim",
           f"step.aggregate is {step.aggregate}")
    unused(step.clip_norm != default.step.clip_norm and step.aggregate != "clipped", "step.clip_norm",
           f"step.aggregate is {step.aggregate}")
    unused((privacy.clip, privacy.delta) != (default.privacy.clip, default.privacy.delta) and privacy.noise == 0,
           "privacy.clip", "privacy.noise is 0: nothing is private")
    unused(config.allocation.coverage != default.allocation.coverage and bool(config.allocation.coverage_per_block),
           "allocation.coverage", "allocation.coverage_per_block is given")
    return lines


def check_run(config: Config) -> None:
    require(0 <= config.seed <= MOST_SEED, "seed", config.seed, "from 0 to 2^64 − 1")
    require(1 <= config.rounds <= MOST_ROUNDS, "rounds", config.rounds, f"from 1 to {MOST_ROUNDS}")
    name = config.name
    require(bool(name.strip()) and name not in (".", ".."), "name", name, "a word that can name a folder")
    bad = sorted({c for c in name if c in '/\\:*?"<>|' or not c.isprintable()})
    require(not bad, "name", name, f"free of {' '.join(map(repr, bad))}: it names a folder; `out` takes a whole path")
    require(len(name.encode()) <= 200, "name", name[:20] + "…", "at most 200 bytes long: it names a folder")
    require("\0" not in config.out, "out", config.out, "a path")
    at_least(1, evaluation__every=config.evaluation.every, evaluation__batch=config.evaluation.batch)
    at_least(0, evaluation__examples=config.evaluation.examples)
    if config.evaluation.data == "validation":
        require(config.task.validation_examples > 0, "task.validation_examples", 0,
                "more than 0, because evaluation.data is validation")
    require(config.guard.loss_multiple > 1, "guard.loss_multiple", config.guard.loss_multiple, "more than 1")


def check_clients(config: Config) -> None:
    clients = config.clients
    require(1 <= clients.count <= MOST_CLIENTS, "clients.count", clients.count, f"from 1 to {MOST_CLIENTS}")
    require(1 <= clients.batch <= MOST_BATCH, "clients.batch", clients.batch, f"from 1 to {MOST_BATCH}")
    fuse = clients.fuse
    require(fuse == "auto" or (fuse.isascii() and fuse.isdigit() and 1 <= int(fuse) <= MOST_CLIENTS), "clients.fuse",
            fuse, f"auto, or a number from 1 to {MOST_CLIENTS}")
    require(clients.fused == 1 or config.placement != "per_client", "clients.fuse", fuse,
            "1 with placement=per_client: an actor of one client has no other's mini-batch beside it")
    at_least(1, clients__pieces=clients.pieces)
    positive(clients__alpha=clients.alpha)
    if clients.partition == "natural" and config.task.name == "files":
        require(bool(clients.partition_column), "clients.partition_column", "",
                "the data's column that names the client, because clients.partition is natural")


def check_model(model: ModelConfig) -> None:
    require(bool(model.path), "model.path", model.path, "'embedded', a folder or a hub name")
    if model.config:
        close = difflib.get_close_matches(model.config.lower(), PUBLISHED, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        require(model.config in PUBLISHED, "model.config", model.config, f"one of {', '.join(PUBLISHED)}{hint}")
        require(model.path == "embedded", "model.path", model.path,
                f"left at 'embedded' while model.config is {model.config!r}: one of the two names the model")
    if model.trainable == "groups":
        require(bool(model.groups), "model.groups", [], "a list of patterns, because model.trainable is groups")
    for i, pattern in enumerate(model.groups):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"model.groups.{i} is {pattern!r}, not a regular expression: {error}") from None
    at_least(1, model__lora__rank=model.lora.rank)
    positive(model__rounding=model.rounding)
    alpha = model.lora.alpha
    require(0 < alpha <= MOST_ALPHA, "model.lora.alpha", alpha, f"above 0, at most {MOST_ALPHA:g}")


def check_task(task: TaskConfig) -> None:
    require(bool(task.name), "task.name", task.name, "'embedded', a known task or 'files'")
    at_least(1, task__max_tokens=task.max_tokens)
    at_least(0, task__train_examples=task.train_examples, task__test_examples=task.test_examples,
             task__per_class=task.per_class)
    at_least(0, task__validation_examples=task.validation_examples)
    at_least(2, task__generate=task.generate)
    require(not task.answer or task.name == "files", "task.answer", task.answer, "empty unless task.name is files")
    require(not task.answer or task.answer not in task.text, "task.answer", task.answer,
            "a column that is not in task.text: the answer would stand in the question")
    require(len(task.words) != 1, "task.words", task.words, "one word for each label, so two or more")
    require(len(set(task.words)) == len(task.words), "task.words", task.words, "all different")
    require(len(task.labels) != 1, "task.labels", task.labels, "two values or more, or none")
    require(len(set(task.labels)) == len(task.labels), "task.labels", task.labels, "all different")
    require(not (task.words and task.labels) or len(task.words) == len(task.labels), "task.words", task.words,
            f"one for each of task.labels, which are {len(task.labels)}")
    if task.name == "files":
        for name, what in (("train", "training data"), ("test", "test data")):
            require(bool(getattr(task, name)), f"task.{name}", "", f"the {what}, because task.name is files")
        require(bool(task.text), "task.text", [], "the columns of the text, because task.name is files")
        require(bool(task.label), "task.label", "", "the column of the label")
    try:
        parts = [part for part in string.Formatter().parse(task.prompt) if part[1] is not None]
        fields = [field for _, field, _, _ in parts if field is not None]
        for _, _, kind, conversion in parts:
            f"{{{f'!{conversion}' if conversion else ''}:{kind}}}".format("text")
    except ValueError as error:
        raise ConfigError(f"task.prompt is {task.prompt!r}: {error}; {{column}} is a field, {{{{ a brace") from None
    require(not task.prompt.strip() or bool(fields), "task.prompt", task.prompt,
            "made with a column, such as {text}: without one the model never sees the data")
    require(all(word.strip() for word in task.words), "task.words", task.words, "free of empty words")
    require(task.label not in task.text or task.name == "text", "task.label", task.label,
            "a column that is not in task.text: the answer would stand in the question")
    for field in fields if task.text else []:
        require(field in task.text, "task.prompt", task.prompt,
                f"made of the columns in task.text ({', '.join(task.text)}), and {{{field}}} is not one of them")


def check_method(config: Config) -> None:
    zo, step = config.zo, config.step
    require(1 <= zo.directions <= MOST_DIRECTIONS, "zo.directions", zo.directions, f"from 1 to {MOST_DIRECTIONS}")
    require(zo.mu >= LEAST_MU, "zo.mu", zo.mu,
            f"{LEAST_MU:g} or more (1e-3 is usual): a smaller one moves no float32 weight")
    require(1 <= zo.local_steps <= MOST_LOCAL_STEPS, "zo.local_steps", zo.local_steps, f"from 1 to {MOST_LOCAL_STEPS}")
    require(0 <= step.lr <= MOST_LR, "step.lr", step.lr, f"from 0 to {MOST_LR:g}")
    at_least(0, step__warmup=step.warmup)
    require(step.warmup <= config.rounds, "step.warmup", step.warmup, f"at most rounds, which is {config.rounds}")
    require(0 <= step.final <= 1, "step.final", step.final, "a share of step.lr, from 0 to 1")


def check_allocation(config: Config) -> None:
    allocation, clients = config.allocation, config.clients.count
    require(bool(allocation.order), "allocation.order", [], "a list of objectives")
    require(len(set(allocation.order)) == len(allocation.order), "allocation.order", allocation.order,
            "free of repetitions")
    require(len(allocation.epsilon) == len(allocation.order), "allocation.epsilon", allocation.epsilon,
            f"a list of {len(allocation.order)} numbers, one for each objective in allocation.order")
    at_least(0, **{f"allocation.epsilon.{i}": slack for i, slack in enumerate(allocation.epsilon)})
    coverages = {f"allocation.coverage_per_block.{i}": m for i, m in enumerate(allocation.coverage_per_block)}
    for name, least in coverages.items():
        require(0 <= least <= clients, name, least, f"from 0 to clients.count, which is {clients}")
    require(-1 <= allocation.coverage <= clients, "allocation.coverage", allocation.coverage,
            f"from 0 to clients.count, which is {clients}, or -1")
    require(bool(allocation.rows) == (allocation.plan == "given"), "allocation.rows", allocation.rows,
            "a list of texts of 0 and 1 with allocation.plan=given, and empty with any other plan")
    for i, row in enumerate(allocation.rows):
        require(bool(row) and not set(row) - {"0", "1"}, f"allocation.rows.{i}", row,
                "a text of 0 and 1, a digit a block")
    positive(allocation__time_limit=allocation.time_limit)
    require(bool(allocation.smoothness), "allocation.smoothness", [], "a list of one number, or of one for each block")
    for i, x in enumerate(allocation.smoothness):
        require(0 < x <= MOST_STATISTIC, f"allocation.smoothness.{i}", x, f"above 0 and at most {MOST_STATISTIC:g}")
    at_least(0, allocation__mip_gap=allocation.mip_gap)
    require(0 <= allocation.horizon <= 1, "allocation.horizon", allocation.horizon, "a share from 0 to 1")
    for name in ("gradient", "batch_variance", "client_variance"):
        for i, x in enumerate(getattr(allocation, name)):
            require(0 <= x <= MOST_STATISTIC, f"allocation.{name}.{i}", x, f"from 0 to {MOST_STATISTIC:g}")


def check_stop(config: Config) -> None:
    stop = config.stop
    require(0 <= stop.accuracy <= 1, "stop.accuracy", stop.accuracy, "a share from 0 to 1")
    at_least(0, stop__loss=stop.loss, stop__flops=stop.flops, stop__seconds=stop.seconds)
    if stop.bytes:
        check_size(stop.bytes, "stop.bytes")
    if stop.seconds and not config.fleet.devices:
        raise ConfigError("stop.seconds counts on the virtual clock, and fleet.devices is empty; a limit on real time "
                          "is the job scheduler's, and --resume-or-start goes on where it cut")


def check_runtime(config: Config) -> None:
    runtime = config.runtime
    at_least(0, runtime__actors=runtime.actors)
    at_least(0, runtime__cpus=runtime.cpus, runtime__gpus=runtime.gpus)
    require(1 <= runtime.threads <= MOST_THREADS, "runtime.threads", runtime.threads, f"from 1 to {MOST_THREADS}")
    positive(runtime__patience=runtime.patience)
    require(not (runtime.gpus and runtime.device == "cpu"), "runtime.gpus", runtime.gpus, "0 with runtime.device=cpu")
    checkpoint = config.checkpoint
    at_least(0, checkpoint__every=checkpoint.every, checkpoint__tensors=checkpoint.tensors)
    at_least(1, checkpoint__keep=checkpoint.keep)
    require(checkpoint.every > 0 or checkpoint.tensors == 0, "checkpoint.tensors", checkpoint.tensors,
            "0 while checkpoint.every is 0: only a snapshot makes tensors dispensable")
    check_size(runtime.hidden_memory, "runtime.hidden_memory")
    known = runtime.address in ("local", "auto") or re.fullmatch(r"(ray://)?[^\s/:]+:\d+", runtime.address)
    require(bool(known), "runtime.address", runtime.address, "local, auto, or an address such as ray://host:10001")
