"""The folder of a new run."""

from __future__ import annotations

import errno
import os
from datetime import datetime
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.runs.folder import cannot_write, refuse_used_folder


def run_folder(config: Config) -> Path:
    """`out`, never one that holds a run already; or runs/NAME-TIME, which gets a number where the name is taken."""
    folder = Path(config.out) if config.out else Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if config.runtime.address == "local":  # else it lies where the driver will be
        there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
        if not there.is_dir():
            raise ConfigError(f"out is {config.out}, and {there} is a file; it must be a folder, there or not")
        if not os.access(there, os.W_OK):
            raise cannot_write(there, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    if config.out:
        refuse_used_folder(folder)
    return folder
