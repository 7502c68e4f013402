"""What config, this machine's files and the network tell before anything starts. No torch."""

from __future__ import annotations

from pathlib import Path

from zorba_ray.config import hub
from zorba_ray.config.files import check_files, looks_local
from zorba_ray.config.schema import Config
from zorba_ray.methods import forked_of
from zorba_ray.tasks.beforehand import check_data, columns_wanted, on_the_hub
from zorba_ray.tasks.load import describe
from zorba_ray.tracking import refuse_absent
from zorba_ray.world.availability import read_trace
from zorba_ray.world.budgets import client_budgets
from zorba_ray.world.clock import fleet_of


def check_early(config: Config) -> None:
    """ConfigError, one line, for what a run with this config would stumble on once everything is up. Files and network
    are asked where Ray is started here: on a cluster they are what its actors see."""
    fleet_of(config, client_budgets(config.clients, config.seed))
    blocks = check_files(config)
    if blocks:
        forked_of(config, blocks)
    if config.runtime.address == "local":
        refuse_absent(config.tracking)
        refuse_out_of_reach(config)
        check_data(config.task, config.clients)
        if config.participation.availability == "trace":
            read_trace(Path(config.participation.trace), config.clients.count)
    else:
        describe(config.task, config.clients.partition_column)


def refuse_out_of_reach(config: Config) -> None:
    """Models and data of the hub are fetched, or were: else they must lie here."""
    model, data = config.model.path, on_the_hub(config.task)
    wants_model = model != "embedded" and not looks_local(model)
    if not (wants_model or data) or not hub.trouble():
        return
    if wants_model and not hub.cached("models", model):
        raise hub.model_out_of_reach(model)
    for key, name in data.items():
        if not hub.cached("datasets", name):
            raise hub.data_out_of_reach(key, name, columns_wanted(config.task))
