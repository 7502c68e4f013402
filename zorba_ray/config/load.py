"""From a config file and key=value arguments to a typed `Config`, and back to YAML.

Layers, each over the one before: the schema's defaults (the embedded default run), the file's `base` if it names one,
the file, further files likewise, the arguments. A value may refer to another one: name: run-${seed}.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from zorba_ray.config.environment import FromEnvironment, as_far_as_known, remember
from zorba_ray.config.environment import escape as escape_text
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.keys import check_choice, children
from zorba_ray.config.kind import Kind
from zorba_ray.config.schema import Config
from zorba_ray.config.shipped import CONFIGS
from zorba_ray.config.source import Setting, base_of, method_file_of, read_argument, read_yaml

FOLDERS = "configs/", "configs/methods/", "configs/paper/"
METHOD_FOLDERS = (Path("configs") / "methods", CONFIGS / "methods")


KindOf = Callable[[str], Kind]  # a method file (empty: none) → the kind of config that it makes possible
Layer = list[Setting]  # of one file with what it is based on, or of the command line


def load_config(
    path: str | Path | None, overrides: Sequence[str] = (), more: Sequence[str] = (), *, kind_of: KindOf,
    elsewhere: bool = False,
) -> Config:
    """The config of a run. `path` is a file or the bare name of one in configs/ or its methods/ or paper/; None is
    the embedded default. `more` files come over it, each over the one before. `elsewhere`: not where the run was
    begun, so that references to variables which are not set stay as they are."""
    files = [find_config(each) for each in [*([path] if path else []), *more]]
    kind = kind_of(method_file_in(files, overrides))
    arguments = [setting for argument in overrides for setting in read_argument(argument, kind)]
    return build(kind, [*(read_files(file, kind) for file in files), arguments], elsewhere)


def method_file_in(files: Sequence[Path], overrides: Sequence[str] = ()) -> str:
    """The method file that files and arguments name: it must be read before their other keys can be understood."""
    found = [scalar for file in files for each in reversed(chain(file)) if (scalar := method_file_of(each))]
    found += [text.partition("=")[2].strip("'\"") for text in overrides if text.startswith("method_file=")]
    return found[-1] if found else ""


def build(kind: Kind, layers: Sequence[Layer], elsewhere: bool = False) -> Config:
    """The config that layers of settings make over the defaults, later ones over earlier ones. A layer that chooses a
    method stands over the preset of that method, so that choosing by key and by preset is the same."""
    settings = [setting for layer in layers for setting in [*preset_of(kind, layer), *layer]]
    tree = copy.deepcopy(blank(kind))
    for setting in settings:
        put(tree, setting)
    give_way(tree, settings)
    return resolve(tree, {setting.name: setting.origin for setting in settings}, elsewhere)


@lru_cache(maxsize=64)
def blank(kind: Kind) -> DictConfig:
    """The defaults as a tree that knows its types."""
    return cast(DictConfig, OmegaConf.structured(kind))


def preset_of(kind: Kind, layer: Layer) -> Layer:
    """The settings of the method that a layer chooses, from configs/methods/NAME.yaml; none where it chooses none, or
    one of the user's own."""
    chosen = [setting.value for setting in layer if setting.path == ("method",)]
    if not chosen:
        return []
    path = next((p for folder in METHOD_FOLDERS if (p := folder / f"{chosen[-1]}.yaml").is_file()), None)
    return read_files(path, kind) if path else []


def find_config(name: str | Path) -> Path:
    """The file that the user means: a path, or a bare name looked up in ./configs and in those that come with the
    package, and in their methods/ and paper/."""
    path = Path(name)
    if path.is_file():
        return path
    bare = path if path.suffix in (".yaml", ".yml") else Path(f"{path}.yaml")
    groups = [[root / inner for root in (Path("configs"), CONFIGS)] for inner in ("", "methods", "paper")]
    tried = [bare] if path.is_absolute() else [bare, *(folder / bare for group in groups for folder in group)]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    here = [sorted({p.stem for folder in group for p in folder.glob("*.yaml")}) for group in groups]
    known = [f"; {where} has {', '.join(names)}" for where, names in zip(FOLDERS, here, strict=True) if names]
    folder = " (that is a folder)" if path.is_dir() else ""
    raise ConfigError(f"no config file {str(name)!r}{folder}{''.join(known)}")


def is_config(name: str) -> bool:
    """Whether a word of the command line means a config file."""
    try:
        find_config(name)
    except ConfigError:
        return name.endswith((".yaml", ".yml"))
    return True


def read_files(path: Path, kind: Kind) -> Layer:
    """The settings of a file after those of the file that it is based on, and so on."""
    settings: Layer = []
    for each in chain(path):
        settings = read_yaml(each, kind) + settings
    return settings


def chain(path: Path) -> list[Path]:
    """A config file, the one that its `base` names, and so on."""
    found: list[Path] = []
    while True:
        if path.resolve() in map(Path.resolve, found):
            raise ConfigError(f"{path}: the configs' `base` lines go round in a circle")
        found.append(path)
        base = base_of(path)
        if not base:
            return found
        beside = path.parent / base
        following = next((p for p in (beside, Path(f"{beside}.yaml")) if p.is_file()), None)
        if following is None:
            raise ConfigError(f"{path}: base names {base!r}, and there is no file {beside}")
        path = following


def put(tree: DictConfig, setting: Setting) -> None:
    """Set one key; OmegaConf converts the text to the key's type."""
    for i, part in enumerate(setting.path):
        parent = ".".join(setting.path[:i])
        if part.isdecimal() and int(part) >= (count := len(OmegaConf.select(tree, parent))):
            problem = f"{parent} has {count} entries, numbered from 0; set it as a whole, {parent}=[…]"
            raise ConfigError(f"{setting.origin}: {setting.name}: {problem}")
    try:
        OmegaConf.update(tree, setting.name, setting.value)
    except GrammarParseError:
        problem = "'${' begins a reference to another key, as in ${seed}; write '\\${' for the characters themselves"
        raise ConfigError(f"{setting.origin}: {setting.name}: {problem}") from None


def give_way(tree: DictConfig, settings: list[Setting]) -> None:
    """The default's budget classes give way to another way of saying the budgets."""
    budgets = tree.clients.budgets
    said = any(setting.name.startswith("clients.budgets.classes") for setting in settings)
    if not said and (budgets.explicit or budgets.median):
        budgets.classes = []


def resolve(tree: DictConfig, origins: dict[str, str], elsewhere: bool = False) -> Config:
    """The typed config, its references to other keys followed and its choices checked."""
    try:
        config = cast(Config, OmegaConf.to_object(as_far_as_known(tree) if elsewhere else tree))
    except OmegaConfBaseException as error:
        name = str(error.full_key)
        problem = str(error).splitlines()[0]
        if "???" in problem or "missing" in problem.lower():
            problem = "'???' means that the value is still to be given"
        elif (unset := re.search(r"Environment variable '(.*)' not found", problem)) is not None:
            problem = f"the environment variable {unset[1]} is not set"
        raise ConfigError(f"{origins.get(name, 'config')}: {name}: {problem}") from None
    if not elsewhere:
        check_choices(config, (), origins)
    return cast(Config, remember(tree, config))


def check_choices(section: Any, path: tuple[str, ...], origins: dict[str, str]) -> None:
    for name, key in children(type(section), path).items():
        value = getattr(section, name)
        try:
            check_choice(key, value, key.name)
        except ConfigError as error:
            raise ConfigError(f"{origins.get(key.name, 'config')}: {error}") from None
        for child, where in ([(value, key.path)] if key.is_section else []) + (
            [(entry, (*key.path, str(i))) for i, entry in enumerate(value)]
            if dataclasses.is_dataclass(key.element) else []
        ):
            check_choices(child, where, origins)


def to_yaml(config: Config, explained: bool = False) -> str:
    """The whole config as YAML that `load_config` reads back equal; `explained`: with each key's meaning beside it."""
    tree = OmegaConf.structured(escape(config))
    return "".join(explain_section(config, (), tree)) if explained else OmegaConf.to_yaml(tree)


def escape(value: Any) -> Any:
    """A copy in which text that looks like a reference, ${…}, is taken literally; what came from the environment is the
    reference that it came by."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: escape(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if isinstance(value, list):
        return [escape(entry) for entry in value]
    if isinstance(value, FromEnvironment):
        return value.reference
    return escape_text(value) if isinstance(value, str) else value


def explain_section(section: Any, path: tuple[str, ...], tree: DictConfig) -> list[str]:
    """A section's lines: each key under a comment with its meaning and choices."""
    lines = []
    indent = "  " * len(path)
    for name, key in children(type(section), path).items():
        choices = f" ({' | '.join(key.choices)})" if key.choices else ""
        comment = f"{indent}# {key.help}{choices}"
        if key.is_section:
            lines += ["\n" if not path else "", f"{comment}\n{indent}{name}:\n"]
            lines += explain_section(getattr(section, name), key.path, tree[name])
        else:
            plain = cast(dict[str, Any], OmegaConf.to_container(tree, resolve=False))
            entry = OmegaConf.to_yaml(OmegaConf.create({name: plain[name]}))
            lines += [f"{comment}\n", textwrap.indent(entry, indent)]
    return lines
