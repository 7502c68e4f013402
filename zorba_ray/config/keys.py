"""The keys of a run, read off the schema: what --help lists, errors suggest and values are checked against."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.kind import Kind

EXPECTED = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
PLURAL = {int: "integers", float: "numbers", str: "texts"}
OLD_NAMES = {  # keys and sections that moved, to where they are now
    "faults.on_fault": "runtime.on_fault",
    "split": "fedspzo",
    "pool": "fedkseed",
    "local": "fedavg",  # and fedit
}


@dataclass(frozen=True)
class Key:
    """One key, section or list entry of the schema. `path` has `i` for the index of a list's entry."""

    path: tuple[str, ...]
    type: Any
    help: str
    choices: Sequence[str]
    default: Any

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def is_section(self) -> bool:
        return dataclasses.is_dataclass(self.type)

    @property
    def element(self) -> Any:
        """Type of a list's entries; None where the key is not a list."""
        return typing.get_args(self.type)[0] if typing.get_origin(self.type) is list else None

    @property
    def expected(self) -> str:
        """What the key takes, in words."""
        if self.is_section:
            return "a group of keys"
        if self.element is None:
            return EXPECTED[self.type]
        return f"a list of {PLURAL.get(self.element, 'groups of keys')}, such as {self.example}"

    @property
    def example(self) -> str:
        if dataclasses.is_dataclass(self.element):
            return "[{" + dataclasses.fields(self.element)[0].name + ": …}]"
        return {int: "[1, 2]", float: "[0.1, 0.2]"}.get(self.element, "[one, two]")


def children(kind: Any, path: tuple[str, ...] = ()) -> dict[str, Key]:
    """The keys directly inside a section, by name."""
    types = typing.get_type_hints(kind)
    blank = kind()
    return {
        field.name: Key(
            (*path, field.name), types[field.name], field.metadata["help"], field.metadata["choices"],
            getattr(blank, field.name),
        )
        for field in dataclasses.fields(kind)
    }


def walk(kind: Any, path: tuple[str, ...] = ()) -> list[Key]:
    """Every key, section and list-entry key below `kind`, in the order of the schema."""
    found = []
    for key in children(kind, path).values():
        found.append(key)
        if key.is_section:
            found += walk(key.type, key.path)
        elif dataclasses.is_dataclass(key.element):
            found += walk(key.element, (*key.path, "i"))
    return found


@functools.lru_cache(maxsize=64)
def all_keys(kind: Kind) -> tuple[Key, ...]:
    return tuple(walk(kind))


def find(kind: Kind, path: tuple[str, ...]) -> Key:
    """The schema's key for a path whose list indexes are digits; ConfigError with the nearest key otherwise."""
    wanted = tuple("i" if part.isdecimal() else part for part in path)
    for key in all_keys(kind):
        if key.path == wanted:
            return key
        if key.element is not None and wanted == (*key.path, "i"):
            return dataclasses.replace(key, path=(*key.path, "i"), type=key.element)
    name, moved = ".".join(path), new_name(path)
    if moved:
        raise ConfigError(f"the key {name!r} is now called {moved!r}")
    raise ConfigError(f"no key is called {name!r}; the nearest is {nearest(kind, path)!r}")


def new_name(path: tuple[str, ...]) -> str:
    """What a key, or the section that it was in, is called now; empty for one that never was."""
    for length in range(len(path), 0, -1):
        moved = OLD_NAMES.get(".".join(path[:length]))
        if moved:
            return ".".join([moved, *path[length:]])
    return ""


def nearest(kind: Kind, path: tuple[str, ...]) -> str:
    """The valid key most like `path`, with its indexes; the last part counts by itself too: 'lr' finds 'step.lr'."""
    indexes = iter([part for part in path if part.isdecimal()])
    wanted = tuple("i" if part.isdecimal() else part for part in path)

    def likeness(key: Key) -> float:
        whole = difflib.SequenceMatcher(None, ".".join(wanted).lower(), key.name).ratio()
        last = difflib.SequenceMatcher(None, wanted[-1].lower(), key.path[-1]).ratio()
        return max(whole, 0.9 * last) + 0.01 * last

    best = max((key for key in all_keys(kind) if not key.is_section), key=likeness)
    return ".".join(next(indexes, "0") if part == "i" else part for part in best.path)


def check_choice(key: Key, value: Any, name: str) -> None:
    """A value that is not among the key's choices: name them and the nearest."""
    if not key.choices:
        return
    for one in value if isinstance(value, list) else [value]:
        if one not in key.choices:
            close = difflib.get_close_matches(str(one).lower(), key.choices, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{name} cannot be {one!r}: it is one of {', '.join(key.choices)}{hint}")
