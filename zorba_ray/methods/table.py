"""All methods by name, and methods of your own: from `register`, or from the file that `method_file` names."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import FIRST_ORDER, METHOD_NAMES, Config
from zorba_ray.methods import fedavg, fedit, fedkseed, fedspzo, statistics, zorba
from zorba_ray.methods.method import FirstOrder, Method, ZeroOrder

METHODS: dict[str, Method] = {
    "zorba": ZeroOrder(zorba.probes, zorba.scalars, zorba.step),
    "decomfl": ZeroOrder(zorba.probes, zorba.scalars, zorba.step),
    "fedspzo": ZeroOrder(fedspzo.probes, fedspzo.scalars, fedspzo.step),
    "fedkseed": ZeroOrder(fedkseed.probes, fedkseed.scalars, fedkseed.step, fedkseed.upload),
    "fedzo": ZeroOrder(zorba.probes, zorba.scalars, zorba.step, dense=True),
    "fedavg": FirstOrder(fedavg.train, fedavg.step),
    "fedit": FirstOrder(fedit.train, fedit.step),
    "statistics": ZeroOrder(statistics.probes, statistics.scalars, statistics.step),
}
BUILT_IN = frozenset(METHODS)
_read: set[Path] = set()  # method files that this process has run


def register(name: str, method: Method) -> None:
    """Make a method of your own known in this process, as `method=name`. In a `method_file`, in every process."""
    if not re.fullmatch(r"[A-Za-z][\w-]*", name) or name in BUILT_IN:
        raise ConfigError(f"a method cannot be called {name!r}: the name must be a word, and none of the project's own")
    METHODS[name] = method
    if name not in METHOD_NAMES:
        METHOD_NAMES.append(name)
    if isinstance(method, FirstOrder) and name not in FIRST_ORDER:
        FIRST_ORDER.append(name)


def method_of(config: Config) -> Method:
    """The method that a config names."""
    if config.method_file:
        read(Path(config.method_file))
    if config.method not in METHODS:
        raise ConfigError(f"method is {config.method!r}, and {config.method_file or 'nothing'} registers a method of "
                          f"that name; known are {', '.join(METHOD_NAMES)}")
    return METHODS[config.method]


def read(path: Path) -> None:
    """Run a method file, once in a process."""
    path = path.absolute()
    if path in _read:
        return
    if not path.is_file():
        raise ConfigError(f"method_file: there is no file {path}; every node needs it, so give an absolute path")
    spec = importlib.util.spec_from_file_location(f"zorba_ray_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"method_file: {path} is not a Python file; its name must end in .py")
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except ConfigError:
        raise
    except Exception as error:  # whatever a user's file may raise
        raise ConfigError(f"method_file: {path} fails with {type(error).__name__}: {error}") from error
    _read.add(path)
