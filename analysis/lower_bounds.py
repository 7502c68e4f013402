"""The fast tests with every dependency as old as pyproject.toml allows, torch apart: `python analysis/lower_bounds.py`.

An environment of its own (in FOLDER, where one that is there is used again; else in a temporary folder): each
dependency of the package at the newest patch of its lower bound, torch and what only tests need as constraints.txt pins
them. What came out is kept in analysis/results/lower_bounds.md; the exit status is that of the tests.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "analysis" / "results" / "lower_bounds.md"
TESTS = "not slow and not real and not gpu and not ray"
APART = ("torch",)


def bounds() -> dict[str, str]:
    """Requirement, as pip reads it, by the dependency's name."""
    found = {}
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        parts = re.fullmatch(r"([\w-]+)(\[[\w,]+\])?>=([\d.]+)", line)
        assert parts, line
        if parts[1] not in APART:
            found[parts[1]] = f"{parts[1]}{parts[2] or ''}=={parts[3]}.*"
    return found


def python_in(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    tools = [re.split(r"[>=\[]", line)[0] for line in dev]
    pins = [f"{name}=={pinned[name]}" for name in (*APART, *tools) if name in pinned]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *bounds().values(), *tools, *pins], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-e", ROOT], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, metavar="FOLDER")
    parser.add_argument("--tests", default=TESTS, metavar="EXPRESSION")
    parser.add_argument("--only", nargs="*", default=[], metavar="PATH", help="of the tests, and nothing is kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        python = python_in((given.environment or Path(place) / "oldest").absolute())
        had = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
        names = {*bounds(), *APART}
        versions = [line for line in had.splitlines() if re.split(r"==| @ ", line)[0].lower() in names]
        line = [python, "-m", "pytest", "-m", given.tests, *given.only]
        here = {**os.environ, "CI": "1"}
        made = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, env=here)
    print(made.stdout[-6000:], made.stderr[-2000:])
    if not given.only:
        end = made.stdout.strip().splitlines()[-1]
        RESULT.write_text(
            f"# As old as is allowed\n\n`python analysis/lower_bounds.py` on {datetime.date.today()}, Python "
            f"{sys.version.split()[0]}, `-m '{given.tests}'`: {end}\n\n{', '.join(versions)}\n",
            encoding="utf-8",
        )
    sys.exit(made.returncode)


if __name__ == "__main__":
    main()
