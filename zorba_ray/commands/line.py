"""A command's line: an optional CONFIG, key=value arguments and flags, in any order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.keys import all_keys, nearest
from zorba_ray.config.load import is_config
from zorba_ray.config.source import KEY, path_of
from zorba_ray.methods import kind_of


@dataclass(frozen=True)
class Flag:
    """`value` names what the flag takes, as in --resume RUN; empty for a switch."""

    name: str
    help: str
    value: str = ""


@dataclass(frozen=True)
class Program:
    """What a command is called, does and takes; `help_text` and `parse_command` read it."""

    name: str
    summary: str
    flags: tuple[Flag, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()  # arguments, what they do
    argument: str = "CONFIG"  # what the one positional argument is called; empty: there is none
    many: bool = False  # further ones of it may follow
    kinds: Callable[[], tuple[Any, ...]] = lambda: ()  # whose keys it takes as key=value: its own, then a run's
    hidden: tuple[str, ...] = ()  # keys and sections that it takes but has no use for: --help leaves them out

    @property
    def keys(self) -> bool:
        return bool(self.kinds())


@dataclass(frozen=True)
class Command:
    """What the user asked for. `flags` has the flags that were given, with their value ("" for switches)."""

    config_path: str | None = None
    overrides: tuple[str, ...] = ()
    flags: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()  # configs after the first, each over the one before


COMMON = (
    Flag("--json", "one JSON object on stdout at the end; everything for people on stderr"),
    Flag("--help", "print this text"),
    Flag("--version", "print the version"),
)

TRUST_CODE = Flag("--trust-code", "run the code that the folder's config names (method_file, remote code)")

RUN = Program(
    "python -m zorba_ray.run",
    "Simulate one federated fine-tuning run. CONFIG is a YAML file, or the bare name of one in configs/ or "
    "configs/methods/; further ones come over it. Without any the embedded default runs: a small model and task of its "
    "own, nothing to download, no GPU needed.",
    (
        Flag("--resume", "go on with a run, from its folder; of its config placement, runtime.*, guard.*, stop.*, "
             "checkpoint.*, tracking, name may change, and rounds may grow (step.schedule=constant)", "RUN"),
        Flag("--resume-or-start", "go on with the run in this folder, or begin it there: for job schedulers, which "
             "give the same line again", "FOLDER"),
        TRUST_CODE,
        Flag("--address", "where Ray is: local, auto, host:port, ray://host:port; short for runtime.address=…", "RAY"),
        Flag("--local", "without Ray, in this process"),
        Flag("--detach", "go on without this terminal; `list`, `attach` and `stop` find the run"),
        Flag("--dry-run", "check everything, place the clients, estimate memory, time, bytes and disk, and stop"),
        Flag("--print-config", "print the resolved config as YAML and stop"),
    ),
    (
        ("", "the embedded default"),
        ("rounds=200 zo.directions=8 seed=1", "the same with other values"),
        ("opt125m_sst2 clients.count=100", "configs/opt125m_sst2.yaml with 100 clients"),
        ("opt125m_sst2 zorba_private", "the same task with the preset configs/methods/zorba_private.yaml"),
        ("my.yaml 'clients.budgets.classes=[{name: all, budget: 24 GiB}]'", "a list is given as a whole"),
        ("clients.budgets.classes.0.budget=16GiB", "or one entry of it by its number"),
        ("--resume runs/run-20260101-120000", "go on where Ctrl-C stopped"),
        ("my.yaml --address auto", "on a Ray cluster that is up"),
        ("stop.accuracy=0.9 --detach", "in the background, until nine of ten are right"),
    ),
    kinds=lambda: (kind_of(""),),
)


def parse_command(argv: Sequence[str], program: Program = RUN) -> Command:
    """Sort the arguments; ConfigError, one line, for what is not understood. --help wins over everything else."""
    if "--help" in argv or "-h" in argv:
        return Command(flags={"--help": ""})
    known = {flag.name: flag for flag in program.flags + COMMON}
    position: str | None = None
    more: list[str] = []
    overrides: list[str] = []
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if not argument.strip():
            raise ConfigError("an empty argument; is a variable of the shell unset?")
        if argument.startswith("-") and len(argument) > 1:
            name, equals, value = argument.partition("=")
            if name not in known:
                raise ConfigError(unknown_flag(argument, program))
            if known[name].value and not equals:
                if not rest:
                    raise ConfigError(f"{name} takes a value: {name} {known[name].value}")
                value = rest.pop(0)
            elif equals and not known[name].value:
                raise ConfigError(f"{name} takes no value")
            flags[name] = value
        elif program.keys and "=" in argument and (KEY.fullmatch(argument.partition("=")[0]) or argument[0] == "="):
            overrides.append(argument)
        elif position is None and program.argument and not is_key(argument, program):
            position = argument
        elif program.many or (
            program.keys and program.argument and not is_key(argument, program) and is_config(argument)
        ):
            more.append(argument)
        else:
            raise ConfigError(misplaced(argument, position, program))
    return Command(position, tuple(overrides), flags, tuple(more))


def is_key(text: str, program: Program) -> bool:
    return any(key.name == text and not key.is_section for kind in program.kinds() for key in all_keys(kind))


def unknown_flag(argument: str, program: Program) -> str:
    name, _, value = argument.partition("=")
    key = name.lstrip("-").replace("-", "_")
    if is_key(key, program):
        return f"no flag is called {name}; keys are set without dashes: {key}={value or '…'}"
    names = [flag.name for flag in program.flags + COMMON]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
    return f"no flag is called {name}; the nearest is {close}"


def misplaced(argument: str, position: str | None, program: Program) -> str:
    if is_key(argument, program):
        return f"{argument!r} is a key; set it with {argument}=…, without spaces"
    if not program.argument:
        return f"{argument!r} is not understood: this command takes flags only"
    what = f"{argument!r} comes after {program.argument} {position!r}"
    if not program.keys:
        return f"{what}: there is only one {program.argument}"
    words = path_of(re.sub(r"[^\w.\[\]]", "", argument)) or ("name",)
    return f"{what} and is not key=value; the nearest key is {nearest(program.kinds()[-1], words)}"
