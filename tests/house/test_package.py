"""The package's functions are callable whatever was imported before or after, and importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zorba_ray.commands.main import COMMANDS

DOORS = ("run", "allocate", "study", "replay")
NAMES = (*DOORS, "open_run", "load_config")


def python(code: str) -> str:
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_functions_win_over_modules_in_every_order() -> None:
    """All orders of importing a door and the function of its name, in one process each door: modules are forgotten in
    between."""
    code = f"""
import importlib, itertools, sys, types
ways = (
    lambda name: importlib.import_module("zorba_ray." + name),
    lambda name: exec("from zorba_ray import " + name, {{}}),
    lambda name: exec("import zorba_ray." + name, {{}}),
    lambda name: exec("import zorba_ray." + name + " as other", {{}}),
)
for name in {DOORS}:
    for order in itertools.permutations(ways):
        for module in [m for m in sys.modules if m == "zorba_ray" or m in {tuple('zorba_ray.' + d for d in DOORS)}]:
            del sys.modules[module]
        for way in order:
            way(name)
            package = sys.modules["zorba_ray"]
            assert isinstance(getattr(package, name), types.FunctionType), (name, order)
            scope = {{}}
            exec("from zorba_ray import " + name + " as found", scope)
            assert isinstance(scope["found"], types.FunctionType), (name, order)
        assert isinstance(sys.modules["zorba_ray." + name], types.ModuleType)
        assert importlib.import_module("zorba_ray." + name).main
print("all")
"""
    assert python(code).strip() == "all"


@pytest.mark.parametrize("first", [f"import zorba_ray.{door}" for door in DOORS] + ["import zorba_ray.commands.api"])
def test_star_import_gives_all_functions(first: str) -> None:
    names = ", ".join(NAMES)
    assert python(f"{first}\nfrom zorba_ray import *\nprint(all(map(callable, ({names}))))").strip() == "True"


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = set(python("import sys, zorba_ray, zorba_ray.run; print(*sys.modules)").split())
    assert not loaded & {"torch", "ray", "transformers", "pyarrow", "numba", "highspy"}


def test_front_end_and_driver_do_without_torch() -> None:
    """Only client actors wait for it."""
    rooms = "zorba_ray.commands.front, zorba_ray.runtime.driver, zorba_ray.runtime.pool, zorba_ray.runtime.backend"
    loaded = set(python(f"import sys, {rooms}, zorba_ray.runs.simulate; print(*sys.modules)").split())
    assert not loaded & {"torch", "transformers", "numba", "datasets"}


def test_every_command_helps_and_refuses_without_torch_and_ray() -> None:
    lines = [
        *([command, "--help"] for command in COMMANDS),
        ["run", "zo.moo=1"], ["run", "rounds=0"], ["run", "--resume", "nowhere"], ["allocate", "nothing.yaml"],
        ["study", "methods", "seedz=1"], ["study", "methods", "seeds=[]"], ["attach", "nothing"], ["rnu"],
    ]  # fmt: skip
    code = f"""
import sys
from zorba_ray.commands.main import main
for line in {lines}:
    assert main(line) == (0 if "--help" in line else 2), line
    heavy = {{"torch", "ray", "transformers"}} & set(sys.modules)
    assert not heavy, (line, heavy)
"""
    python(code)

