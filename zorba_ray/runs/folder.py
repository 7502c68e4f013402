"""The folder of a run: what lies in it, and who may write there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.runs.config import load_config

CONFIG, ALLOCATION, LEDGER = "config.yaml", "allocation.json", "ledger.jsonl"
STATISTICS = "statistics{}.json"


def refuse_used_folder(folder: Path) -> None:
    """A new run never writes over an old one."""
    if (folder / LEDGER).exists():
        raise ConfigError(f"{folder} already holds a run; go on with it by --resume {folder}, or choose another `out`")


def stored_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The config that a run folder was begun with."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} has no {CONFIG}: it is not the folder of a run")
    return load_config(folder / CONFIG, overrides)


def resume_line(run_dir: Path) -> str:
    """The command that goes on with a run."""
    return f"python -m zorba_ray.run --resume {shlex.quote(str(run_dir))}"
