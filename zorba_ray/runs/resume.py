"""Going on with a run: which keys may be given again, and how a longer run is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zorba_ray.config import load
from zorba_ray.config.environment import written
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.config.schema import Config
from zorba_ray.ledger import count_rounds, has_header, ledger_sha256
from zorba_ray.methods import kind_of
from zorba_ray.runs.bound import FREE, refuse_another_run
from zorba_ray.runs.folder import CONFIG, LEDGER, stored_config, write_whole, writing_to
from zorba_ray.runs.lock import refuse_held
from zorba_ray.runs.rewind import refuse_fewer_rounds, refuse_lost_ledger
from zorba_ray.runs.summary import FILE as SUMMARY
from zorba_ray.runs.summary import Summary, read_summary
from zorba_ray.runs.trust import refuse_method_file, refuse_untrusted

HERE = ("placement", "runtime", "out")  # of what may be given again, that which holds for one sitting


def resumed_config(folder: Path, overrides: Sequence[str] = (), trusted: bool = False) -> Config:
    """The config of a run to go on with: the one it was begun with, but for what decides no line of its ledger and is
    given again. What can be told from the folder alone is told here, before anything starts. `trusted`: code that the
    folder's config names may run."""
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] not in set(FREE) - {"out"}:
            raise ConfigError(
                "a resumed run keeps its config; only more rounds, name, placement, method_file, tracking, runtime.*, "
                "guard.*, stop.* and checkpoint.* may be given with --resume"
            )
    refuse_untrusted(folder, trusted)
    stored, config = stored_config(folder), stored_config(folder, overrides)
    check_rounds(stored, config, folder)
    with writing_to(folder):
        refuse_held(folder)
    if has_header(folder / LEDGER):
        refuse_another_run(config, folder)
        refuse_fewer_rounds(config, count_rounds(folder / LEDGER))
    else:
        refuse_lost_ledger(folder)
    return config


def finished(config: Config, folder: Path) -> Summary | None:
    """The summary of a run of which nothing is left to do: its end is written down, and is that of this ledger."""
    if not (folder / SUMMARY).is_file():
        return None
    summary = read_summary(folder)
    done = not summary.interrupted and summary.rounds_done >= config.rounds and summary.model_sha256 != ""
    return summary if done and summary.ledger_sha256 == ledger_sha256(folder / LEDGER) else None


def can_resume(folder: Path) -> bool:
    """Whether a folder holds a run that can be gone on with."""
    return (folder / CONFIG).is_file() and (folder / LEDGER).is_file()


def check_same(config: Config, folder: Path, trusted: bool = False) -> Config:
    """A config given for a run that was begun must be that run's, but for what --resume may change; and nobody else
    goes on with it now. `trusted`: other code than its own, which the folder's config names, may run to see what that
    says. The config to go on with: its precision and fused clients are what `auto` came to."""
    refuse_method_file(folder, trusted)
    stored = stored_config(folder)
    if config.model.precision == "auto":
        config = dataclasses.replace(
            config, model=dataclasses.replace(config.model, precision=stored.model.precision)
        )
    if config.clients.fuse == "auto":
        config = dataclasses.replace(config, clients=dataclasses.replace(config.clients, fuse=stored.clients.fuse))
    before, now = dict(flat(stored)), dict(flat(config))
    for name in (*before, *now):
        if name.partition(".")[0] not in FREE and before.get(name) != now.get(name):
            raise ConfigError(
                f"{folder} was begun with {name}={written(before.get(name))}, and now it is {written(now.get(name))}: "
                f"that is another run; give it a folder of its own"
            )
    check_rounds(stored, config, folder)
    with writing_to(folder):
        refuse_held(folder)
    return config


def flat(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a config by its whole name."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{path}{field.name}.")
        else:
            yield path + field.name, value


def check_rounds(stored: Config, config: Config, folder: Path) -> None:
    """A run may become longer where its earlier rounds do not depend on how many there are."""
    if config.rounds == stored.rounds:
        return
    if config.rounds < stored.rounds:
        raise ConfigError(f"{folder} was begun with rounds={stored.rounds}; a resumed run may only become longer")
    if stored.step.schedule != "constant":
        raise ConfigError(
            f"rounds={config.rounds}: {folder} has step.schedule={stored.step.schedule}, by which the rate of every "
            f"round depends on how many there are; only a run with step.schedule=constant may become longer"
        )


def keep_config(config: Config, folder: Path) -> None:
    """Write down with what the run now goes on; where it computes is not kept."""
    stored = load.load_config(folder / CONFIG, kind_of=kind_of, elsewhere=True)
    kept = dataclasses.replace(config, **{name: getattr(stored, name) for name in HERE})
    if kept != stored:
        write_whole(folder / CONFIG, to_yaml(kept))
