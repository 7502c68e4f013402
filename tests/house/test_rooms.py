"""Rooms stand in one order: each imports only from those before it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import zorba_ray
from zorba_ray.methods import METHODS

ROOMS = (
    "config", "noise", "messages", "ledger", "model", "playground", "tasks", "engine", "methods", "world", "allocation",
    "rounds", "records", "tracking", "runs", "runtime", "studies", "report", "commands",
)  # fmt: skip
PACKAGE = Path(zorba_ray.__file__).parent
DOORS = {"__init__", "run", "allocate", "study", "replay"}  # modules of the package itself: they only open rooms


def imported(path: Path) -> set[str]:
    """Every zorba_ray module that a file names in an import, wherever the import stands (TYPE_CHECKING included)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            found.add(module)
            if module == "zorba_ray":
                found |= {f"zorba_ray.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "zorba_ray"}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE}
    assert folders == set(ROOMS)
    assert {path.stem for path in PACKAGE.glob("*.py")} - DOORS <= {"__main__"}


def test_a_room_imports_only_from_rooms_before_it() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path)
        if path.parent == PACKAGE:  # doors
            continue
        for name in sorted(imported(path)):
            other = [*name.split("."), ""][1]
            if other in ROOMS and ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
            elif other in DOORS - {"__init__"}:
                wrong.append(f"{path.relative_to(PACKAGE)} imports the door {name}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_other_file_names_a_method() -> None:
    """What a method is stands in its file; `zorba` is also the name of the package and of its plan."""
    names = {path.stem for path in (PACKAGE / "methods").glob("*.py")} & set(METHODS) - {"zorba"}
    assert len(names) >= 6
    where_moved = PACKAGE / "config" / "keys.py"  # old keys point to the sections of methods
    found = [
        f"{path.relative_to(PACKAGE)} names {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "methods" and path != where_moved
        for name in sorted(names)
        if re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"), flags=re.IGNORECASE)
    ]
    assert not found, "\n" + "\n".join(found)
