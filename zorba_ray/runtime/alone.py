"""A Ray of our own: for this machine alone and for this user alone.

Left to itself, Ray listens on every interface, and whoever reaches it runs code as its user. Here it is bound to the
loopback, and asks for a token that is made anew for every run.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

LOOPBACK = "127.0.0.1"
ACCESS = "ray.json"  # in the run's folder while it goes on
ONLY_HERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # off, Ray takes the loopback for its node's address, as it does there
MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


def start_alone(options: dict[str, Any]) -> None:
    """Start Ray. Where the environment says how Ray is to authenticate, that counts."""
    if MODE not in os.environ:
        os.environ[MODE], os.environ[TOKEN] = "token", secrets.token_hex(32)
        reread_environment()
    with only_here():
        ray.init(address="local", include_dashboard=False, **options)


def is_alone() -> bool:
    """Whether this process's Ray listens on the loopback only."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["NodeManagerAddress"] for node in nodes] == [LOOPBACK]


@contextmanager
def only_here() -> Iterator[None]:
    """While Ray starts, its own switch for machines where it never listens to others. It reads it when it is imported,
    so a Ray that was imported before is told, too."""
    before = os.environ.get(ONLY_HERE)
    os.environ[ONLY_HERE] = "0"
    constants: Any = None
    with suppress(ImportError):
        from ray._private import ray_constants as constants
    old = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    if old is not None:
        constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        if old is not None:
            constants.ENABLE_RAY_CLUSTER = old
        if before is None:
            del os.environ[ONLY_HERE]
        else:
            os.environ[ONLY_HERE] = before


def reread_environment() -> None:
    """Ray's C++ part may have read the environment already."""
    with suppress(ImportError, AttributeError):
        from ray import _raylet

        core: Any = _raylet
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()


def write_access(folder: Path) -> Path | None:
    """Beside the run, for its owner's eyes only, what another process of theirs needs to join the Ray that the run
    started; None where the run joined somebody else's."""
    if TOKEN not in os.environ or not is_alone():
        return None
    path = folder / ACCESS
    body = {"address": ray.get_runtime_context().gcs_address, MODE: os.environ[MODE], TOKEN: os.environ[TOKEN],
            "pid": os.getpid()}  # fmt: skip
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(body, file)
    return path
