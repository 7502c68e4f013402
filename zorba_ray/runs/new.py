"""The folder of a new run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from zorba_ray.config.schema import Config
from zorba_ray.runs.folder import refuse_used_folder


def run_folder(config: Config) -> Path:
    """`out`, never one that holds a run already; or runs/NAME-TIME, which gets a number where the name is taken."""
    if not config.out:
        return Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    refuse_used_folder(Path(config.out))
    return Path(config.out)
