"""Code that a run's folder names runs only where that was asked for: who was handed it may not have read its config."""

from __future__ import annotations

from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import method_file_in
from zorba_ray.runs.folder import CONFIG, refuse_no_run, stored_config


def refuse_untrusted(folder: Path, trusted: bool) -> None:
    """Before anything else reads the config: reading it runs the `method_file`, whose keys it may have."""
    refuse_no_run(folder)
    if trusted:
        return
    method_file = method_file_in([folder / CONFIG])
    code = f"method_file={method_file}" if method_file else ""
    if not code and (model := stored_config(folder).model).trust_remote_code:
        code = f"model.trust_remote_code with {model.path}"
    if code:
        raise ConfigError(
            f"{folder / CONFIG} names code that would run here, {code}; look at it, then say --trust-code"
        )
