"""What a task tells before a model is at hand: names, columns, small files, and what has to come from the hub."""

from __future__ import annotations

from pathlib import Path

from zorba_ray.config.schema import ClientsConfig, TaskConfig
from zorba_ray.tasks.load import describe, find_rows, training
from zorba_ray.tasks.partition import refuse_too_many, refuse_ungrouped
from zorba_ray.tasks.read import is_file, parse_hub

SMALL = 32 << 20  # bytes of data files that are read beforehand
FEW = 20_000  # and examples of the embedded task that are made


def check_data(config: TaskConfig, clients: ClientsConfig) -> None:
    """What a task's name and columns and its files tell without a model: large files are read once, by the run."""
    known = describe(config, clients.partition_column)
    files = [Path(source).expanduser() for source in (config.train, config.test) if source]
    if files:
        little = all(map(Path.is_file, files)) and sum(path.stat().st_size for path in files) <= SMALL
    else:
        little = known.hub is None and config.train_examples + config.validation_examples <= FEW
    if little:
        train = training(config, find_rows(config, known)[0][0], 0)[0]
        refuse_too_many(clients.count, len(train.labels))
        refuse_ungrouped(train.groups is not None or clients.partition != "natural")


def on_the_hub(config: TaskConfig) -> dict[str, str]:
    """The data sets that have to come from the hub, by the key that asks for them."""
    hub = describe(config, "").hub
    found: dict[str, str] = {}
    for part, source in (("train", config.train), ("test", config.test)):
        if source and not is_file(source):
            named, _ = parse_hub(source, part)
            found |= {} if Path(named.path).is_dir() else {f"task.{part}": named.path}
        elif not source and hub is not None and not (part == "test" and config.train):
            found[f"task.{part}"] = hub.path
    return found


def columns_wanted(config: TaskConfig) -> list[str]:
    return [*describe(config, "").text, config.label]
