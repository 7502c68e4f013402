"""The words in which a value is refused: what a key must be, and what it is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.keys import check_choice, children
from zorba_ray.config.units import parse_bytes


def require(condition: bool, name: str, value: Any, wanted: str) -> None:
    """`wanted` says what the value must be and, where that is not plain, what to change."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}; it must be {wanted}")


def check_values(section: Any, path: tuple[str, ...]) -> None:
    """Every value by its own: numbers are finite, choices are among the choices."""
    for name, key in children(type(section), path).items():
        value = getattr(section, name)
        entries = value if isinstance(value, list) else [value]
        for entry in entries:
            if isinstance(entry, float):
                require(math.isfinite(entry), key.name, entry, "a finite number")
            elif dataclasses.is_dataclass(entry):
                check_values(entry, key.path)
        check_choice(key, value, key.name)


def at_least(low: float, **values: float) -> None:
    """Each value at or above `low`; names are keys with __ for the dot."""
    for name, value in values.items():
        require(value >= low, name.replace("__", "."), value, f"{low:g} or more")


def positive(**values: float) -> None:
    for name, value in values.items():
        require(value > 0, name.replace("__", "."), value, "more than 0")


def check_size(size: str, name: str, least: int = 1) -> None:
    try:
        count = parse_bytes(size)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    require(count >= least, name, size, "more than 0 bytes")
    require(count < 2**60, name, size, "less than 1024 PiB")
