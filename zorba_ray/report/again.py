"""How to do a run again, from the page alone: what to install, and one line with every key that is not the default."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

import yaml  # type: ignore[import-untyped]

from zorba_ray.config.kind import Kind
from zorba_ray.config.load import build, escape
from zorba_ray.config.schema import Config
from zorba_ray.config.source import read_argument
from zorba_ray.methods import kind_of
from zorba_ray.runs.resume import flat
from zorba_ray.runs.summary import Summary

PINNED = ("torch", "ray", "transformers", "numpy", "numba", "highspy")  # of what results may depend on


def keys(config: Config) -> list[str]:
    """key=value of all that the defaults do not say; `out`, which is a place, left out."""
    kind: Kind = kind_of(config.method_file)
    chosen = [read_argument(f"{name}={spelled(getattr(config, name))}", kind) for name in ("method", "method_file")]
    usual, mine = dict(flat(escape(build(kind, chosen)))), dict(flat(escape(config)))
    said = {name: value for name, value in mine.items() if value != usual.get(name) and name != "out"}
    first = {name: getattr(config, name) for name in ("method_file", "method") if getattr(config, name)}
    said = first | said  # the method brings its preset along, so it is always named
    return [f"{name}={spelled(value)}" for name, value in said.items()]


def spelled(value: Any) -> str:
    """As YAML on one line."""
    text: str = yaml.safe_dump(plain(value), default_flow_style=True, allow_unicode=True, width=1 << 20)
    return text.removesuffix("\n").removesuffix("\n...")


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def line(config: Config) -> str:
    return " ".join(["python -m zorba_ray.run", *map(shlex.quote, keys(config))])


def install(summary: Summary) -> str:
    """The versions that the run had."""
    found = summary.environment.get("libraries", {})
    pins = [f"{name}=={found[name].partition('+')[0]}" for name in PINNED if name in found]
    commit = summary.environment.get("commit", "")
    which = f"  # from commit {commit}" if commit else ""
    return f"pip install zorba-ray=={summary.version} {' '.join(pins)}".rstrip() + which
