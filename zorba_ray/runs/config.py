"""The config of a run, from files and key=value arguments: loaded, and refused where it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zorba_ray import methods
from zorba_ray.config import load, validate
from zorba_ray.config.schema import Config


def load_config(path: str | Path | None = None, overrides: Sequence[str] = (), more: Sequence[str] = ()) -> Config:
    """`path` is a file or the bare name of one in configs/ or configs/methods/ (None: the embedded default); `more`
    files come over it, and `overrides`, key=value, over all. ConfigError, one line, for what cannot be."""
    return checked(load.load_config(path, overrides, more, kind_of=methods.kind_of))


def checked(config: Config) -> Config:
    """The config, if a run with it can be."""
    validate.validate(config)
    methods.check(config)
    return config


def ignored(config: Config) -> list[str]:
    """Keys that are set and have no effect, one line each: not wrong, but worth saying."""
    return [*validate.ignored(config), *methods.ignored(config)]
