"""Code that a run's folder names runs only where that was asked for: who was handed it may not have read its config."""

from __future__ import annotations

from pathlib import Path

from zorba_ray.config.environment import written
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import method_file_in
from zorba_ray.methods import has_read
from zorba_ray.runs.folder import CONFIG, refuse_no_run, stored_config


def refuse_untrusted(folder: Path, trusted: bool) -> None:
    """Before anything else reads the config and opens the model."""
    refuse_method_file(folder, trusted)
    if not trusted and (model := stored_config(folder).model).trust_remote_code:
        raise names_code(folder / CONFIG, f"model.trust_remote_code with {written(model.path)}")


def refuse_method_file(folder: Path, trusted: bool) -> None:
    """Reading the config runs the `method_file`, whose keys it may have: unless this process has run that already."""
    refuse_no_run(folder)
    named = method_file_in([folder / CONFIG])
    if named and not trusted and not has_read(named):
        raise names_code(folder / CONFIG, f"method_file={named}")


def names_code(path: Path, code: str) -> ConfigError:
    return ConfigError(
        f"{path} names code that would run here, {code}; look at it, then say --trust-code (in Python trust_code=True)"
    )
