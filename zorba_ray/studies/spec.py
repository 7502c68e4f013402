"""What a study file says, typed, and what it may not say.

    name: methods
    base: …                          the config that all arms share
    set: [rounds=100, …]             and what the study sets on top of it
    arms: [{name: …, presets: […], set: […]}, …]
    tuning: {factors: […], seed: …, rounds: …}
    seeds: [0, 1, 2]
    scale: {key: clients.count, values: [10, 100]}
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import CHECKOUT, escape
from zorba_ray.config.units import parse_bytes
from zorba_ray.config.validate import require

METRICS = ("accuracy", "loss")
FOLDER = "studies"  # of study files, below configs/


@dataclass
class Arm:
    """One line of the table: presets over the study's base, then `set`."""

    name: str = ""
    presets: list[str] = field(default_factory=list)  # configs by path or name, such as methods/zorba_private
    set: list[str] = field(default_factory=list)  # key=value
    group: str = ""  # arms of one group share a panel of the figures
    lifted: bool = False  # budgets that hold full activation; said in the table
    lr: float = 0.0  # centre of the grid; 0: what presets and `set` make it
    rates: list[float] = field(default_factory=list)  # this grid itself, instead of factors around the centre


@dataclass
class Tuning:
    """The sweep of each arm: one run for every rate, on examples set aside from training."""

    factors: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0, 10.0])  # of the arm's centre
    seed: int = 1000
    rounds: int = 0  # of every arm, but no more than its final runs have; 0: as many as those
    metric: str = "loss"  # which is best at the end of the sweep: accuracy, or loss
    key: str = "step.lr"


@dataclass
class Scale:
    """Every arm again for each value of one key; the learning rate is tuned for each."""

    key: str = ""
    values: list[str] = field(default_factory=list)


@dataclass
class Study:
    name: str = "study"
    base: str = ""  # a run's config, by path or name; empty: the embedded default
    set: list[str] = field(default_factory=list)
    arms: list[Arm] = field(default_factory=list)
    only: list[str] = field(default_factory=list)  # names of arms; empty: all
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    tuning: Tuning = field(default_factory=Tuning)
    scale: Scale = field(default_factory=Scale)
    metric: str = "accuracy"  # what the table and the figures are about
    target: float = 0.9  # accuracy at least, or loss at most
    lifted: str = "1 TiB"  # budget of every client of an arm whose budgets are lifted
    override: list[str] = field(default_factory=list)  # key=value of the command line, over everything else
    cpus: float = 1.0  # of one run
    gpus: float = 0.0
    address: str = "local"  # of the Ray cluster, as runtime.address
    out: str = ""  # folder of the study; empty: runs/NAME-TIME

    @property
    def chosen(self) -> list[Arm]:
        return [arm for arm in self.arms if not self.only or arm.name in self.only]

    @property
    def settings(self) -> list[str]:
        """The scale's values; one empty value where there is no scale."""
        return self.scale.values if self.scale.key else [""]


NAMES = tuple(f.name for f in dataclasses.fields(Study) if f.name not in ("set", "override"))


def find_study(name: str) -> Path:
    """The file that the user means: a path, or a bare name looked up in configs/studies."""
    path = Path(name)
    if path.is_file():
        return path
    bare = path if path.suffix in (".yaml", ".yml") else Path(f"{path}.yaml")
    folders = [Path("configs") / FOLDER, CHECKOUT / FOLDER]
    for folder in folders:
        if (folder / bare).is_file():
            return folder / bare
    here = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    known = f"; configs/studies/ has {', '.join(here)}" if here else ""
    raise ConfigError(f"no study file {name!r}{known}")


def load_study(path: Path, arguments: Sequence[str] = ()) -> Study:
    """The study of a file. An argument sets a key of the study where it has that key, else a key of every run."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read study {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a study is lines of 'key: value'")
    known_keys(tree, Study, "", str(path))
    own = [argument for argument in arguments if head(argument) in NAMES]
    tree["override"] = [*(tree.get("override") or []), *(a for a in arguments if head(a) not in NAMES)]
    for argument in own:
        name, _, text = argument.partition("=")
        put(tree, name, read_value(name, text))
    study = typed(tree, str(path))
    check(study)
    return study


def head(argument: str) -> str:
    """The first part of an argument's key."""
    return re.split(r"[.=\[]", argument, maxsplit=1)[0]


def read_value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"command line: {name}: not valid YAML: {text}") from None


def put(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set a.b of the tree."""
    *sections, last = name.split(".")
    kind: Any = Study
    for section in sections:
        nested = {f.name: f.default_factory for f in dataclasses.fields(kind)}.get(section)
        if not dataclasses.is_dataclass(nested):
            raise ConfigError(f"command line: {name}: {section} has no keys; give the list as a whole, {section}=[…]")
        kind, tree = nested, tree.setdefault(section, {})
    known_keys({last: value}, kind, name.rpartition(".")[0], "command line")
    tree[last] = value


def known_keys(tree: Any, kind: Any, where: str, source: str) -> None:
    """ConfigError with the nearest name at the first key that a section does not have."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: {where} is a group of keys, such as {dataclasses.fields(kind)[0].name}")
    names = [f.name for f in dataclasses.fields(kind)]
    for name, value in tree.items():
        here = f"{where}.{name}" if where else str(name)
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1, cutoff=0)[0]
            hint = "; keys of a run go under `set` as key=value" if kind in (Study, Arm) else ""
            raise ConfigError(f"{source}: a study has no key {here!r}; the nearest is {close!r}{hint}")
        nested = {"tuning": Tuning, "scale": Scale}.get(name) if kind is Study else None
        if nested is not None:
            known_keys(value, nested, here, source)
        elif kind is Study and name == "arms":
            for i, arm in enumerate(value if isinstance(value, list) else []):
                known_keys(arm, Arm, f"arms.{i}", source)


def typed(tree: dict[str, Any], source: str) -> Study:
    """The tree as a Study, every value converted to its type; ${…} in it belongs to the runs' configs."""
    try:
        literal = escape_tree(tree)
        return cast(Study, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Study), literal)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {error.full_key}: {str(error).splitlines()[0]}") from None


def escape_tree(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: escape_tree(entry) for name, entry in value.items()}
    return [escape_tree(entry) for entry in value] if isinstance(value, list) else escape(value)


def check(study: Study) -> None:
    """ConfigError at the first thing that cannot be."""
    names = [arm.name for arm in study.arms]
    require(bool(names), "arms", [], "a list of one arm or more")
    require(bool(study.name.strip()) and not re.search(r'[/\\:*?"<>|]', study.name), "name", study.name,
            "a word that can name a folder")
    for i, name in enumerate(names):
        require(bool(slug(name)), f"arms.{i}.name", name, "a name with letters or digits")
    slugs = [slug(name) for name in names]
    repeated = next((name for name, short in zip(names, slugs, strict=True) if slugs.count(short) > 1), None)
    require(repeated is None, "arms", repeated, "named apart: two arms would share a folder")
    for name in study.only:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
            raise ConfigError(f"no arm is called {name!r}; the nearest is {close!r}")
    require(bool(study.seeds), "seeds", [], "a list of one seed or more")
    require(len(set(study.seeds)) == len(study.seeds), "seeds", study.seeds, "free of repetitions")
    require(study.metric in METRICS, "metric", study.metric, f"one of {', '.join(METRICS)}")
    check_tuning(study)
    require(bool(study.scale.key) == bool(study.scale.values), "scale", study.scale.key or study.scale.values,
            "a key together with its values")
    require(len(set(study.scale.values)) == len(study.scale.values), "scale.values", study.scale.values,
            "free of repetitions")
    require(study.cpus >= 0 and study.gpus >= 0, "cpus, gpus", (study.cpus, study.gpus), "0 or more")
    parse_bytes(study.lifted)


def check_tuning(study: Study) -> None:
    tuning = study.tuning
    require(tuning.seed not in study.seeds, "tuning.seed", tuning.seed, "none of the final seeds")
    require(tuning.metric in METRICS, "tuning.metric", tuning.metric, f"one of {', '.join(METRICS)}")
    require(tuning.rounds >= 0, "tuning.rounds", tuning.rounds, "0 or more")
    require(bool(tuning.factors) and min(tuning.factors) > 0, "tuning.factors", tuning.factors, "positive numbers")
    require(len(set(tuning.factors)) == len(tuning.factors), "tuning.factors", tuning.factors, "free of repetitions")
    for i, arm in enumerate(study.arms):
        require(arm.lr >= 0, f"arms.{i}.lr", arm.lr, "0 or more")
        require(all(rate > 0 for rate in arm.rates), f"arms.{i}.rates", arm.rates, "positive numbers")
        count = len(tuning.factors)
        require(len(set(arm.rates)) in (0, count), f"arms.{i}.rates", arm.rates,
                f"{count} different rates, as many as the other arms try (tuning.factors)")


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
