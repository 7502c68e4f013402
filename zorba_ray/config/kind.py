"""The kind of a run's config: the keys that all runs share, and a section for each method that has keys of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from zorba_ray.config.schema import Config, key, section

Kind = Callable[..., Any]  # a dataclass, made by `config_kind`
Sections = tuple[tuple[str, type, str], ...]  # a method's name, the dataclass of its keys, what they are about


@lru_cache(maxsize=64)
def config_kind(methods: tuple[str, ...], sections: Sections) -> Kind:
    """The dataclass of configs in which `method` is one of `methods`, with their `sections`."""
    text = next(field for field in dataclasses.fields(Config) if field.name == "method").metadata["help"]
    fields: list[Any] = [("method", str, key("zorba", text, methods))]
    fields += [(name, kind, section(kind, help)) for name, kind, help in sections]
    made = dataclasses.make_dataclass("RunConfig", fields, bases=(Config,), namespace={"__module__": __name__})

    def reduce(config: Config) -> tuple[Any, ...]:
        values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        return make, (methods, sections, values)

    made.__reduce__ = reduce  # type: ignore[method-assign,assignment]
    return made


def make(methods: tuple[str, ...], sections: Sections, values: Mapping[str, Any]) -> Config:
    """A config again, from what its `__reduce__` gave."""
    made: Config = config_kind(methods, sections)(**values)
    return made
