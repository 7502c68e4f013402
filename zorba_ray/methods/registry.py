"""All methods by name, and methods of your own: from `register`, or from the file that `method_file` names."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.kind import Kind, config_kind
from zorba_ray.config.schema import Config
from zorba_ray.methods import decomfl, fedavg, fedit, fedkseed, fedspzo, fedzo, statistics, zorba
from zorba_ray.methods.method import FirstOrder, Forked, Method, ZeroOrder

METHODS: dict[str, Method] = {
    "zorba": zorba.METHOD,
    "fedspzo": fedspzo.METHOD,
    "decomfl": decomfl.METHOD,
    "fedkseed": fedkseed.METHOD,
    "fedzo": fedzo.METHOD,
    "fedavg": fedavg.METHOD,
    "fedit": fedit.METHOD,
}
PROBES = {"statistics": statistics.METHOD}  # what a round's plan may name beside them: it makes no step
BUILT_IN = frozenset(METHODS) | frozenset(PROBES)
_read: dict[Path, dict[str, Method]] = {}  # method files that this process has run, and what they registered


def register(name: str, method: Method) -> None:
    """Make a method of your own known in this process, as `method=name`. In a `method_file`, in every process."""
    taken = BUILT_IN | {field.name for field in dataclasses.fields(Config)}
    if not re.fullmatch(r"[A-Za-z]\w*", name) or name in taken:
        raise ConfigError(f"a method cannot be called {name!r}: the name must be a word, and none of the project's own")
    for field in dataclasses.fields(method.options) if method.options else ():
        if "help" not in field.metadata:
            raise ConfigError(f"the key {name}.{field.name} has no meaning: declare it as {field.name}: … = "
                              f"key(default, 'what it means')")  # fmt: skip
    METHODS[name] = method


def kind_of(method_file: str) -> Kind:
    """The kind of config that has all methods and those of a file, but none of other files: a run's config is the same
    whatever else its process has read."""
    mine = read(Path(method_file)) if method_file else {}
    others = {name for found in _read.values() for name in found} - mine.keys()
    known = {name: method for name, method in METHODS.items() if name not in others}
    sections = [(name, method.options, f"keys of method={name}") for name, method in known.items() if method.options]
    return config_kind(tuple(known), tuple(sections))


def method_of(config: Config) -> Method:
    """The method that a config names."""
    if config.method_file:
        read(Path(config.method_file))
    if config.method not in METHODS:
        raise ConfigError(f"method is {config.method!r}, and {config.method_file or 'nothing'} registers a method of "
                          f"that name; known are {', '.join(METHODS)}")  # fmt: skip
    return METHODS[config.method]


def carried_out(name: str) -> Method:
    """The method that a round's plan names."""
    return PROBES[name] if name in PROBES else METHODS[name]


def local_steps(config: Config) -> int:
    """Steps that a client does by itself in a round."""
    return int(config.options.steps) if isinstance(method_of(config), FirstOrder) else config.zo.local_steps


def forked_of(config: Config, blocks: int) -> Forked | None:
    """How a run's probes share first parts; None: they are not split."""
    method = method_of(config)
    return method.forked(config, blocks) if isinstance(method, ZeroOrder) and method.forked else None


def has_gradients(config: Config) -> bool:
    """Whether the clients of a run train with gradients."""
    return isinstance(method_of(config), FirstOrder)


def has_read(method_file: str) -> bool:
    """Whether this process has run a method file."""
    return Path(method_file).absolute() in _read


def read(path: Path) -> dict[str, Method]:
    """Run a method file, once in a process; the methods that it registered, which are now those of their names."""
    path = path.absolute()
    if path in _read:
        METHODS.update(_read[path])
        return _read[path]
    if not path.is_file():
        raise ConfigError(f"method_file: there is no file {path}; every node needs it, so give an absolute path")
    spec = importlib.util.spec_from_file_location(f"zorba_ray_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"method_file: {path} is not a Python file; its name must end in .py")
    before = dict(METHODS)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        raise ConfigError(f"method_file: {path} fails with {type(error).__name__}: {error}") from error
    _read[path] = {name: method for name, method in METHODS.items() if before.get(name) is not method}
    return _read[path]
