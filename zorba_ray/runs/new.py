"""The folder of a new run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.runs.folder import refuse_used_folder


def run_folder(config: Config) -> Path:
    """`out`, or runs/NAME-TIME; never one that holds a run already."""
    folder = Path(config.out) if config.out else Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"out is {config.out}, which is a file; it must be a folder, there or not")
    refuse_used_folder(folder)
    return folder
