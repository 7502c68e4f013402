"""`zorba-ray configs [NAME]`: the files that come with the package, or the path of one: a preset to copy, a file for a
cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import Command, Program
from zorba_ray.config.shipped import CONFIGS, FOLDERS, files_in, find_file

PROGRAM = Program(
    "zorba-ray configs",
    "List the configs, studies and files for clusters that come with zorba_ray, or with a NAME where it lies.",
    examples=(
        ("", "all of them"),
        ("own_data", "where the template for your own data is"),
        ("launcher", "as in: ray up $(zorba-ray configs launcher)"),
    ),
    argument="NAME",
)


def main(argv: Sequence[str] | None = None, name: str = PROGRAM.name) -> int:
    """The command; its exit status."""
    return enter(replace(PROGRAM, name=name), argv, configs)


def configs(command: Command) -> Done:
    if command.config_path is not None:
        path = find_file(command.config_path)
        print(path)
        return Done({"path": path})
    print(CONFIGS)
    for folder, what in FOLDERS.items():
        print(f"  {what}: {', '.join(path.name for path in files_in(folder))}")
    return Done({"folder": CONFIGS, "files": [path for folder in FOLDERS for path in files_in(folder)]})
