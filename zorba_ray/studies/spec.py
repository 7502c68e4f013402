"""What a study file says, typed, and what it may not say.

    name: methods
    base: …                          the config that all arms share
    set: [rounds=100, …]             and what the study sets on top of it
    arms: [{name: …, presets: […], set: […]}, …]
    tuning: {factors: […], seed: …, rounds: …}
    seeds: [0, 1, 2]
    scale: {key: clients.count, values: [10, 100]}
"""

# ruff: noqa: RUF009  (key and section return dataclass fields)

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import escape, put, resolve
from zorba_ray.config.require import require
from zorba_ray.config.schema import key as option
from zorba_ray.config.schema import section
from zorba_ray.config.shipped import CONFIGS
from zorba_ray.config.source import Setting, read_argument, read_yaml, top_node
from zorba_ray.config.units import parse_bytes

METRICS = ("accuracy", "loss")
BY, SEARCHES, SCHEDULERS = ("sweep", "tune"), ("grid", "random", "optuna"), ("none", "asha")
FOLDER = "studies"  # of study files, below configs/


@dataclass
class Arm:
    """One line of the table: presets over the study's base, then `set`."""

    name: str = option("", "what the arm is called in tables and figures")
    presets: list[str] = option([], "configs by path or name, such as zorba_private, each over the one before")
    set: list[str] = option([], "key=value of the arm's runs, over the presets")
    group: str = option("", "arms of one group share a panel of the figures")
    lifted: bool = option(False, "give every client a budget that holds all blocks; the table says so")
    lr: float = option(0.0, "centre of the grid of rates; 0: what presets and `set` make it")
    rates: list[float] = option([], "this grid itself, instead of factors around the centre")


@dataclass
class Tuning:
    """The sweep of each arm: one run for every rate, on examples set aside from training."""

    factors: list[float] = option([0.1, 0.3, 1.0, 3.0, 10.0], "the grid, as factors of the arm's centre; one: no sweep")
    seed: int = option(1000, "seed of the sweep's runs; none of `seeds`")
    rounds: int = option(0, "rounds of a sweep's run, but no more than its final runs have; 0: as many as those")
    metric: str = option("loss", "which rate is best at the end of the sweep", METRICS)
    key: str = option("step.lr", "the key that is tuned")
    by: str = option("sweep", "who carries out the sweeps: this program, or Ray Tune, a Tuner for each arm", BY)
    search: str = option("grid", "Ray Tune's rates: the grid's, or as many between its ends, drawn at random or "
                         "proposed by Optuna", SEARCHES)
    scheduler: str = option("none", "what ends a run of Ray Tune early: nothing, or ASHA", SCHEDULERS)


@dataclass
class Scale:
    """Every arm again for each value of one key; the learning rate is tuned for each."""

    key: str = option("", "the key that takes each of `values` in turn")
    values: list[str] = option([], "its values")


@dataclass
class Study:
    name: str = option("study", "name of the study; its folder is runs/NAME-TIME")
    base: str = option("", "config of all runs, by path or name; empty: the embedded default")
    set: list[str] = option([], "key=value of all runs, over the base")
    arms: list[Arm] = option([], "what is compared, a line of the table each")
    only: list[str] = option([], "names of the arms to run; empty: all")
    seeds: list[int] = option([0, 1, 2], "seeds of each arm's final runs")
    tuning: Tuning = section(Tuning, "the sweep by which each arm's learning rate is chosen")
    scale: Scale = section(Scale, "every arm again for each value of one key")
    metric: str = option("accuracy", "what the table and the figures are about", METRICS)
    against: str = option("", "name of the arm that the others are compared with, seed by seed; empty: the first")
    target: float = option(0.9, "the cost of reaching this is tabled: accuracy at least, or loss at most")
    lifted: str = option("1 TiB", "budget of every client of an arm whose budgets are lifted")
    override: list[str] = option([], "key=value over everything else; the command line's keys of runs come here")
    cpus: float = option(1.0, "CPUs of one run: an actor for each; less than 1 is one actor's share of a CPU")
    gpus: float = option(0.0, "GPUs of one run, whole ones, or less than 1: its share of one")
    address: str = option("local", "Ray cluster, as runtime.address of a run")
    out: str = option("", "folder of the study; empty: runs/NAME-TIME")

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
    folders = [Path("configs") / FOLDER, CONFIGS / FOLDER]
    for folder in folders:
        if (folder / bare).is_file():
            return folder / bare
    here = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    known = f"; configs/studies/ has {', '.join(here)}" if here else ""
    raise ConfigError(f"no study file {name!r}{known}")


def load_study(path: Path, arguments: Sequence[str] = ()) -> Study:
    """The study of a file, read as a run's config is. An argument sets a key of the study where it has that key, else a
    key of every run."""
    try:
        settings = read_yaml(path, Study)
    except ConfigError as error:
        hint = "; keys of a run go under `set` as key=value" if "no key is called" in str(error) else ""
        raise ConfigError(f"{error}{hint}") from None
    base = top_node(path, "base")  # of the runs; a study itself is based on nothing
    if isinstance(base, yaml.ScalarNode):
        settings.append(Setting(("base",), base.value, str(path)))
    for argument in arguments:
        if head(argument) in NAMES:
            settings += read_argument(argument, Study)
    tree = OmegaConf.structured(Study)
    for setting in settings:
        put(tree, replace(setting, value=escape_tree(setting.value)))  # ${…} belongs to the runs' configs
    study = cast(Study, resolve(tree, {setting.name: setting.origin for setting in settings}))
    study.override += [argument for argument in arguments if head(argument) not in NAMES]
    check(study)
    return study


def head(argument: str) -> str:
    """The first part of an argument's key."""
    return re.split(r"[.=\[]", argument, maxsplit=1)[0]


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
    require(not study.against or study.against in names, "against", study.against, f"one of {', '.join(names)}")
    require(bool(study.seeds), "seeds", [], "a list of one seed or more")
    require(len(set(study.seeds)) == len(study.seeds), "seeds", study.seeds, "free of repetitions")
    require(study.metric in METRICS, "metric", study.metric, f"one of {', '.join(METRICS)}")
    check_tuning(study)
    require(bool(study.scale.key) == bool(study.scale.values), "scale", study.scale.key or study.scale.values,
            "a key together with its values")
    require(len(set(study.scale.values)) == len(study.scale.values), "scale.values", study.scale.values,
            "free of repetitions")
    amounts = study.cpus, study.gpus
    require(min(amounts) >= 0 and max(amounts) > 0, "cpus, gpus", amounts, "0 or more, and not both 0")
    require(study.gpus < 1 or study.gpus == int(study.gpus), "gpus", study.gpus, "a whole number, or less than 1")
    require(not study.address.startswith("ray://"), "address", study.address,
            "auto or host:port: runs are written where the command is, so start it on a node of the cluster, as "
            "`ray job submit` does")
    parse_bytes(study.lifted)


def check_tuning(study: Study) -> None:
    tuning = study.tuning
    require(tuning.seed not in study.seeds, "tuning.seed", tuning.seed, "none of the final seeds")
    require(tuning.metric in METRICS, "tuning.metric", tuning.metric, f"one of {', '.join(METRICS)}")
    require(tuning.rounds >= 0, "tuning.rounds", tuning.rounds, "0 or more")
    require(bool(tuning.factors) and min(tuning.factors) > 0, "tuning.factors", tuning.factors, "positive numbers")
    require(len(set(tuning.factors)) == len(tuning.factors), "tuning.factors", tuning.factors, "free of repetitions")
    require(tuning.by == "tune" or (tuning.search, tuning.scheduler) == ("grid", "none"), "tuning.by", tuning.by,
            "tune, for a search or a scheduler of Ray Tune's")
    for i, arm in enumerate(study.arms):
        require(arm.lr >= 0, f"arms.{i}.lr", arm.lr, "0 or more")
        require(all(rate > 0 for rate in arm.rates), f"arms.{i}.rates", arm.rates, "positive numbers")
        count = len(tuning.factors)
        require(len(set(arm.rates)) in (0, count), f"arms.{i}.rates", arm.rates,
                f"{count} different rates, as many as the other arms try (tuning.factors)")


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
