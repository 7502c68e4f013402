"""bound.json: what of the config decides a ledger's bytes, as it was when the ledger was begun, and tied to it.

A run that goes on must not be another run: its config.yaml is a text file that anybody may edit. So the values that
count lie beside the ledger a second time, sealed with the ledger's first seal. A user's method file decides bytes by
its text: that is kept, and its SHA-256 bound.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from zorba_ray.config.environment import written
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import header_seal
from zorba_ray.messages import Header
from zorba_ray.runs.folder import LEDGER, stored_config, write_whole

FILE = "bound.json"
METHOD_FILE = "method_file.py"
FREE = ("name", "out", "rounds", "method_file", "placement", "runtime", "guard", "stop", "checkpoint", "tracking")
"""Keys and sections that decide no line of a ledger: what a run is called, where it computes, and when it ends. (How
many rounds there are counts where the rate depends on it; of a method file, the text is bound and not the path.)"""


def bind(config: Config, header: Header, folder: Path) -> None:
    """Of a run that is about to begin its ledger."""
    values = bound_values(config)
    if config.method_file:
        text = method_text(config)
        write_whole(folder / METHOD_FILE, text)
        values["method_file"] = hashlib.sha256(text.encode()).hexdigest()
    seal = header_seal(header)
    write_whole(folder / FILE, json.dumps({"ledger": seal, "keys": values, "sha256": digest(seal, values)}, indent=1))


def refuse_another_run(config: Config, folder: Path) -> list[str]:
    """ConfigError where the config, or the user's method, is not the one that the folder's ledger was begun with. Else
    what the user should know."""
    path = folder / FILE
    if not path.is_file():
        return [f"{folder} was begun by an earlier version: nothing tells whether its config was edited since"]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        seal, begun, told = found["ledger"], found["keys"], found["sha256"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is damaged; restore it from a copy") from None
    if told != digest(seal, begun) or seal != first_seal(folder / LEDGER):
        raise ConfigError(f"{path} does not belong to the ledger beside it; restore it from a copy")
    now = bound_values(config)
    if config.method_file:
        now["method_file"] = hashlib.sha256(method_text(config, folder).encode()).hexdigest()
    for name in [*begun, *(name for name in now if name not in begun)]:
        if name == "method_file" and begun.get(name) != now.get(name):
            raise ConfigError(
                f"method_file {config.method_file or '(none)'} is not the one that the run was begun with, which is "
                f"{folder / METHOD_FILE}; put that back, or begin a new run"
            )
        was, is_now = begun.get(name, DEFAULTS.get(name)), now.get(name)
        if was != is_now:
            raise ConfigError(
                f"{folder}: {name} was {show(was)} when the run was begun and is now {show(is_now)}; a run keeps what "
                f"decides its ledger. Put it back, or begin a new run"
            )
    return []


def begun_with(folder: Path) -> dict[str, Any]:
    """The keys that count, as they were when the folder's ledger was begun; of a run without a `bound.json` those of
    its config."""
    try:
        return dict(json.loads((folder / FILE).read_text(encoding="utf-8"))["keys"])
    except FileNotFoundError:
        return bound_values(stored_config(folder))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / FILE} is damaged; restore it from a copy") from None


def method_text(config: Config, kept: Path | None = None) -> str:
    """The user's method file; `kept`: the folder that has a copy of it."""
    copy = f"; the run kept a copy, {kept / METHOD_FILE}" if kept else ""
    try:
        return Path(config.method_file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"method_file: cannot read {config.method_file}: {error.strerror}{copy}") from None


def bound_values(config: Config) -> dict[str, Any]:
    """Every key that counts, by its dotted name, as JSON would give it back; of text out of the environment, the
    reference."""
    flat: dict[str, Any] = {}

    def add(section: Any, before: str) -> None:
        for field in dataclasses.fields(section):
            name, value = f"{before}{field.name}", getattr(section, field.name)
            if name in FREE and not (name == "rounds" and config.step.schedule != "constant"):
                continue
            if dataclasses.is_dataclass(value):
                add(value, f"{name}.")
            else:
                flat[name] = json.loads(json.dumps(written(value), default=dataclasses.asdict))

    add(config, "")
    return flat


DEFAULTS = bound_values(Config())  # what a key is where the run was begun before the key existed


def first_seal(ledger: Path) -> str:
    """As it stands in the file; read without verifying the rest."""
    with ledger.open("rb") as file:
        line = file.readline()
    return line.removeprefix(b'{"seal":"').partition(b'"')[0].decode("ascii", errors="replace")


def digest(seal: str, values: dict[str, Any]) -> str:
    return hashlib.sha256(f"{seal}{json.dumps(values, sort_keys=True)}".encode()).hexdigest()


def show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
