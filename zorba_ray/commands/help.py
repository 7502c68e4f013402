"""The text of --help: usage, flags, examples, and every key with its meaning, type and default."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from zorba_ray.commands.line import COMMON, RUN, Program
from zorba_ray.config.keys import Key, all_keys, children

WIDTH = 96
COLUMN = 33  # where the meaning of a key begins
TYPES = {int: "integer", float: "number", bool: "true or false", str: "text"}


def help_text(program: Program = RUN) -> str:
    """What --help prints."""
    argument = f"[{program.argument}{' …' * program.many}]" * bool(program.argument)
    words = [program.name, argument, "[key=value …]" * program.keys, "[flags]"]
    summary = textwrap.fill(program.summary, WIDTH)
    parts = [f"Usage: {' '.join(word for word in words if word)}", summary, "Flags\n" + flags_text(program)]
    if program.examples:
        parts.append("Examples\n" + examples_text(program))
    if program.keys:
        parts.append(keys_text(program))
    return "\n\n".join(parts) + "\n"


def flags_text(program: Program) -> str:
    lines = []
    for flag in program.flags + COMMON:
        lines.append(entry(f"{flag.name} {flag.value}".rstrip(), flag.help))
    return "\n".join(lines)


def examples_text(program: Program) -> str:
    lines = [(f"  {program.name} {arguments}".rstrip(), f"      {what}") for arguments, what in program.examples]
    return "\n".join(line for pair in lines for line in pair)


def keys_text(program: Program) -> str:
    """The command's own keys, a paragraph for each section."""
    own, *others = program.kinds()
    sections: dict[tuple[str, ...], list[str]] = {(): ["Keys"]}
    for key in all_keys(own):
        if key.path[0] in program.hidden:
            continue
        if key.is_section:
            sections[key.path] = [f"{key.name}: {key.help}"]
        else:
            section = max((path for path in sections if key.path[: len(path)] == path), key=len)
            sections[section].append(entry(key.name, key.help, brackets(key)))
    notes = (
        "'' is empty text. A list's entries are numbered: clients.budgets.classes.0.budget=16GiB.\n"
        "A value may refer to another key: name='opt-${seed}'."
    )
    if others or program.hidden:
        notes += "\nEvery other key of a run is taken too: `zorba-ray run --help` lists them."
    return "\n\n".join("\n".join(lines) for lines in sections.values()) + "\n\n" + notes


def entry(name: str, text: str, note: str = "") -> str:
    """A name and its meaning in two columns, then a note, kept in one piece where it fits."""
    body = textwrap.wrap(text, WIDTH - COLUMN, break_on_hyphens=False)
    if note and len(body[-1]) + 2 + len(note) <= WIDTH - COLUMN:
        body[-1] += f"  {note}"
    elif note:
        body += textwrap.wrap(note, WIDTH - COLUMN)
    first = f"  {name}  ".ljust(COLUMN)
    lines = [first.rstrip()] if len(first) > COLUMN else [first + body.pop(0)]
    return "\n".join(lines + [" " * COLUMN + line for line in body])


def brackets(key: Key) -> str:
    """A key's choices or type, and its default."""
    if key.choices and key.element is None:
        kind = " | ".join(key.choices)
    elif key.choices:
        kind = f"list of {' | '.join(key.choices)}"
    elif dataclasses.is_dataclass(key.element):
        kind = "list of groups"
    else:
        kind = TYPES[key.type] if key.element is None else f"list of {TYPES[key.element]}s"
    if "i" in key.path:
        return f"[{kind}]"  # an entry's own default says little: the list's is shown
    return f"[{kind}; default {shown(key.default)}]"


def shown(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(shown(entry) for entry in value) + "]"
    if dataclasses.is_dataclass(value):
        return "{" + ", ".join(f"{name}: {shown(getattr(value, name))}" for name in children(type(value))) + "}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "''"
