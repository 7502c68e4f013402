"""Where settings come from: YAML files and key=value arguments, as a flat list of (key, value, origin).

YAML is read as a tree of nodes, so that an error can name its line and a value is typed by the schema, not guessed:
the label words [yes, no] stay words, and a name 007 keeps its zeros. Values are scalars' raw text until OmegaConf
converts them; nothing in a file can run code.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import BooleanNode, FloatNode, IntegerNode
from omegaconf.errors import ValidationError

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.keys import Key, children, find, nearest
from zorba_ray.config.kind import Kind

KEY = re.compile(r"[A-Za-z_][\w.]*(\[\d+\][\w.]*)*")
CONVERT = {int: IntegerNode, float: FloatNode, bool: BooleanNode, str: str}
NULL, MAPPING = "tag:yaml.org,2002:null", "tag:yaml.org,2002:map"
LONGEST = 60  # characters of a value that are quoted


@dataclass(frozen=True)
class Setting:
    """One value for one key; `origin` says where the user wrote it."""

    path: tuple[str, ...]
    value: Any
    origin: str

    @property
    def name(self) -> str:
        return ".".join(self.path)


def read_yaml(path: Path, config: Kind) -> list[Setting]:
    """The settings of a file; what it is based on (`base`) is `config.load.chain`'s."""
    root = read_root(path)
    rest = [(name, node) for name, node in root.value if not is_named(name, "base")] if root else []
    found = list(flatten(yaml.MappingNode(MAPPING, rest), config, config, (), str(path)))
    refuse_twice(found)
    return found


def top_node(path: Path, name: str) -> yaml.Node | None:
    """What one key at the top of a file says; None: it is not there."""
    root = read_root(path)
    return next((node for key, node in root.value if is_named(key, name)), None) if root else None


def base_of(path: Path) -> str:
    """The file that a file says it is based on; empty: none."""
    node = top_node(path, "base")
    if node is not None and not (isinstance(node, yaml.ScalarNode) and node.value):
        raise ConfigError(f"{at(str(path), node)}: base takes the path of another config")
    return str(node.value) if node else ""


def method_file_of(path: Path) -> str:
    """The method file that a file names; empty: none."""
    node = top_node(path, "method_file")
    return str(node.value) if isinstance(node, yaml.ScalarNode) and not is_null(node) else ""


@lru_cache(maxsize=256)
def parse(text: str, source: str) -> yaml.Node | None:
    return compose(text, source)


def read_root(path: Path) -> yaml.MappingNode | None:
    """A config file as YAML nodes; None: it is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read config {path}: {problem}") from None
    root = parse(text, str(path))
    if root is not None and not isinstance(root, yaml.MappingNode):
        what = "a list" if isinstance(root, yaml.SequenceNode) else "a text"
        raise ConfigError(f"{path}: a config is lines of 'key: value', not {what}")
    return root


def refuse_twice(settings: list[Setting]) -> None:
    """`clients.count: 3` and `clients: {count: 3}` mean the same key."""
    seen: dict[str, str] = {}
    for setting in settings:
        if setting.name in seen:
            raise ConfigError(f"{setting.origin}: {setting.name} is set twice, first at {seen[setting.name]}; keep one")
        seen[setting.name] = setting.origin


def is_named(node: yaml.Node, name: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == name


def read_argument(argument: str, config: Kind) -> list[Setting]:
    """The settings of one `key=value` argument. The value is YAML, except for a text key: that takes it as it is."""
    name, equals, text = argument.partition("=")
    if not equals:
        close = nearest(config, path_of(name))
        raise ConfigError(f"command line: {argument!r} is not key=value; the nearest is {close}=…")
    if not KEY.fullmatch(name):
        raise ConfigError(f"command line: {argument!r} does not begin with a key, as in rounds=50 or zo.mu=1e-3")
    path = path_of(name)
    with where("command line"):
        key = find(config, path)
    if key.type is str:
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        node: Any = compose(text, "command line") if quoted else yaml.ScalarNode("tag:yaml.org,2002:str", text)
    else:
        node = compose(text, f"command line: {name}")
    return list(settings(node, config, key, path, "command line"))


def path_of(name: str) -> tuple[str, ...]:
    """The parts of a.b.0.c, which may also be written a.b[0].c."""
    return tuple(part for part in re.split(r"[.\[\]]+", name) if part)


def compose(text: str, source: str) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark and not source.startswith("command line") else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    return root


def flatten(
    node: yaml.MappingNode, config: Kind, kind: Any, path: tuple[str, ...], source: str
) -> Iterator[Setting]:
    """The settings of a section, which is of some `kind`."""
    known = children(kind)
    for name, child in pairs(node, path, source):
        here = (*path, *path_of(name)) if "." in name else (*path, name)  # clients.count: 3, as on the command line
        with where(at(source, child)):
            key = known[name] if name in known else find(config, here)
        yield from settings(child, config, key, here, source)


def settings(
    node: yaml.Node | None, config: Kind, key: Key, path: tuple[str, ...], source: str
) -> Iterator[Setting]:
    """What one node sets: a section's keys one by one, anything else as one value."""
    if not key.is_section:
        yield Setting(path, value(node, config, key, path, source), at(source, node))
    elif isinstance(node, yaml.MappingNode):
        yield from flatten(node, config, key.type, path, source)
    elif not is_null(node):  # a section with all its lines commented out is null, and sets nothing
        first = next(iter(children(key.type)))
        raise ConfigError(f"{at(source, node)}: {'.'.join(path)} is a group of keys, such as {'.'.join(path)}.{first}")


def value(node: yaml.Node | None, config: Kind, key: Key, path: tuple[str, ...], source: str) -> Any:
    """A node as nested lists and mappings of raw text, shaped as the schema wants it."""
    if key.is_section and isinstance(node, yaml.MappingNode):
        return {s.path[-1]: s.value for s in flatten(node, config, key.type, path, source)}
    if key.element is not None and isinstance(node, yaml.SequenceNode):
        entry = dataclasses.replace(key, type=key.element)
        return [value(child, config, entry, (*path, str(i)), source) for i, child in enumerate(node.value)]
    text = node.value if isinstance(node, yaml.ScalarNode) and not is_null(node) else None
    if text is not None and key.type in CONVERT and convertible(key.type, text):
        return text
    raise ConfigError(f"{at(source, node)}: {'.'.join(path)} takes {key.expected}, not {describe(node)}")


def convertible(kind: Any, text: str) -> bool:
    """Whether OmegaConf makes a value of the type from the text; a reference, ${…}, is only known later."""
    if "${" in text:
        return True
    try:
        CONVERT[kind](text)
    except ValidationError:
        return False
    return True


def pairs(node: yaml.MappingNode, path: tuple[str, ...], source: str) -> Iterator[tuple[str, yaml.Node]]:
    seen: set[str] = set()
    for name, child in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise ConfigError(f"{at(source, name)}: a key is a word, not {describe(name)}")
        if name.value in seen:
            raise ConfigError(f"{at(source, name)}: {'.'.join((*path, name.value))} is set twice; keep one of the two")
        seen.add(name.value)
        yield name.value, child


def at(source: str, node: yaml.Node | None) -> str:
    mark = node.start_mark if node is not None else None
    return source if mark is None or source.startswith("command line") else f"{source}:{mark.line + 1}"


def is_null(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.tag == NULL)


def describe(node: yaml.Node | None) -> str:
    if is_null(node):
        return "nothing"
    if isinstance(node, yaml.ScalarNode):
        return shortened(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a group of keys"


def shortened(text: str) -> str:
    """A value as the user wrote it; of a long one, such as a file's text that is no config, the beginning."""
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "…")


class where:
    """Says where an error was written, in front of its message."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigError):
            raise ConfigError(f"{self.origin}: {error}") from None
