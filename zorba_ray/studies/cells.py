"""A study as a list of runs, before anyone computes. Pure: the same study gives the same runs, names and configs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.kind import Kind
from zorba_ray.config.load import build, find_config, method_file_in, read_files
from zorba_ray.config.schema import BudgetClass, Config
from zorba_ray.config.source import Setting, read_argument
from zorba_ray.methods import has_read, kind_of
from zorba_ray.runs.config import checked
from zorba_ray.runs.trust import names_code
from zorba_ray.studies.spec import Arm, Study, slug

Phase = Literal["sweep", "final"]
T = TypeVar("T")
RUNS = "runs"  # the folder in a study's that has all of them


@dataclass(frozen=True)
class Cell:
    """An arm at one value of the scale: what a learning rate is tuned for. `config` is that of its final runs but for
    rate and seed."""

    arm: Arm
    setting: str  # the scale's value; empty where there is no scale
    config: Config
    rates: tuple[float, ...]  # ascending

    @property
    def label(self) -> str:
        return f"{self.arm.name}, {self.setting}" if self.setting else self.arm.name


@dataclass(frozen=True)
class Run:
    """One run of a study."""

    cell: Cell
    phase: Phase
    rate: float
    config: Config

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def folder(self) -> Path:
        """Below the study's folder."""
        cell = self.cell
        parts = [slug(cell.arm.name), *([slug(cell.setting) or "0"] if cell.setting else [])]
        return Path(RUNS, *parts, f"{self.phase}-lr{self.rate:g}-seed{self.seed}")


def cells(study: Study) -> list[Cell]:
    """Every arm at every value of the scale; ConfigError, naming the arm, where its config cannot be."""
    return [make_cell(study, arm, setting) for arm in study.chosen for setting in study.settings]


def make_cell(study: Study, arm: Arm, setting: str) -> Cell:
    try:
        config = gather(study, arm, setting)
        if arm.lifted:
            config = lift(config, study.lifted)
        centre = arm.lr or read(config, study.tuning.key)
        if not arm.rates and not centre > 0:
            raise ConfigError(f"{study.tuning.key} is {centre:g}, and a grid of factors wants a centre above 0")
        rates = tuple(sorted(arm.rates or [float(f"{centre * factor:.6g}") for factor in study.tuning.factors]))
        cell = Cell(arm, setting, config, rates)
        for run in [*sweep_runs(study, cell), *final_runs(study, cell, rates[0])]:
            checked(run.config)
    except ConfigError as error:
        raise ConfigError(f"arm {arm.name!r}: {error}") from None
    return cell


def gather(study: Study, arm: Arm, setting: str) -> Config:
    """Base, the study's own, presets, the arm's own, the scale, the command line: later ones win."""
    files, said = sources(study, arm, setting)
    kind = kind_of(method_file_in(files, [text for _, texts in said for text in texts]))
    layers = [read_files(file, kind) for file in files]
    own, *later = [arguments(texts, source, kind) for source, texts in said]
    layers.insert(1 if study.base else 0, own)
    return build(kind, [*layers, *later])


def sources(study: Study, arm: Arm, setting: str) -> tuple[list[Path], list[tuple[str, list[str]]]]:
    """The files of an arm, and its key=value texts by where they were written."""
    files = [find_config(name) for name in [*([study.base] if study.base else []), *arm.presets]]
    scale = [f"{study.scale.key}={setting}"] if setting else []
    said = [("set", study.set), (f"arm {arm.name!r}", arm.set), ("scale", scale), ("command line", study.override)]
    return files, said


def refuse_code(study: Study, path: Path, trusted: bool) -> None:
    """Who was handed a study's folder may not have read it: code that it names runs only where that was asked for."""
    if trusted:
        return
    for arm in study.chosen:
        for setting in study.settings:
            files, said = sources(study, arm, setting)
            named = method_file_in(files, [text for _, texts in said for text in texts])
            if named and not has_read(named):
                raise names_code(path, f"method_file={named}")
            if gather(study, arm, setting).model.trust_remote_code:
                raise names_code(path, "model.trust_remote_code")


def arguments(texts: Sequence[str], source: str, kind: Kind) -> list[Setting]:
    """key=value texts as settings, their mistakes told with where they were written."""
    found = []
    for text in texts:
        try:
            found += read_argument(text, kind)
        except ConfigError as error:
            raise ConfigError(f"{source}: {str(error).removeprefix('command line: ')}") from None
    return [replace(setting, origin=source) for setting in found]


def lift(config: Config, budget: str) -> Config:
    """Every client may tune every block."""
    classes = [BudgetClass("lifted", 1.0, budget)]
    budgets = replace(config.clients.budgets, classes=classes, explicit=[], median="")
    return replace(config, clients=replace(config.clients, budgets=budgets))


def sweep_runs(study: Study, cell: Cell, rates: Sequence[float] | None = None) -> list[Run]:
    """One run for every rate (none given: the grid's), on the sweep's seed, judged by the examples set aside. A single
    rate needs no sweep.

    No longer than the final runs: arms whose rounds are few and dear are swept over all of them.
    """
    if len(cell.rates) == 1:
        return []
    rounds = min(study.tuning.rounds or cell.config.rounds, cell.config.rounds)
    every = first_rung(rounds) if study.tuning.scheduler == "asha" else rounds
    evaluation = replace(cell.config.evaluation, data="validation", examples=0, every=every)
    config = replace(cell.config, rounds=rounds, evaluation=evaluation)
    tried = cell.rates if rates is None else rates
    return [make_run(study, cell, "sweep", rate, study.tuning.seed, config) for rate in tried]


def first_rung(rounds: int) -> int:
    """Rounds after which a run of a sweep may first be ended early."""
    return max(1, rounds // 9)


def final_runs(study: Study, cell: Cell, rate: float) -> list[Run]:
    return [make_run(study, cell, "final", rate, seed, cell.config) for seed in study.seeds]


def make_run(study: Study, cell: Cell, phase: Phase, rate: float, seed: int, config: Config) -> Run:
    rated = write(config, study.tuning.key, rate)
    name = "-".join([slug(cell.arm.name), *([slug(cell.setting)] if cell.setting else [])])
    return Run(cell, phase, rate, replace(rated, name=name, seed=seed, out=""))


def read(config: Config, key: str) -> float:
    """A number of the config."""
    value: object = config
    for part in key.split("."):
        value = getattr(value, part, None)
    if not isinstance(value, (int, float)):
        raise ConfigError(f"tuning.key is {key!r}; it must be a number of a run, such as step.lr")
    return float(value)


def write(section: T, key: str, value: float) -> T:
    """The config with one number replaced."""
    first, _, rest = key.partition(".")
    inner = write(getattr(section, first), rest, value) if rest else value
    return dataclasses.replace(section, **{first: inner})  # type: ignore[type-var]


@dataclass(frozen=True)
class Size:
    """What a study comes to."""

    sweeps: int
    finals: int
    rounds: int

    @property
    def runs(self) -> int:
        return self.sweeps + self.finals


def size_of(study: Study, every: Sequence[Cell]) -> Size:
    """Runs and rounds of a whole study, before it is known which rates will be chosen."""
    sweeps = [run for cell in every for run in sweep_runs(study, cell)]
    finals = [run for cell in every for run in final_runs(study, cell, cell.rates[0])]
    return Size(len(sweeps), len(finals), sum(run.config.rounds for run in (*sweeps, *finals)))
