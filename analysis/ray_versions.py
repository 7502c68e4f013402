"""The tests with Ray on the oldest Ray that pyproject.toml allows and on the newest that the index has.

    python analysis/ray_versions.py [--environments FOLDER] [--only oldest newest] [--tests EXPRESSION]

Each version gets an environment of its own (in FOLDER, where one that is there is used again; else in a temporary
folder), with all else as constraints.txt pins it. What came out is kept in analysis/results/ray_versions.md, a row a
version; the exit status is 1 where a test failed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "analysis" / "results" / "ray_versions.md"
TESTS = "ray and not slow and not real and not gpu and not release"
HEAD = """# The tests with Ray, by its version

Written by `python analysis/ray_versions.py` (`make test-release`): an environment for each version of Ray, all else as
`constraints.txt` pins it, and in it the tests that `-m` names.

| Ray | which | date | commit | Python | torch | passed | failed | skipped | minutes | `-m` |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def wanted(which: str) -> str:
    """What pip is asked for: exactly the lower bound of pyproject.toml, or whatever is newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = (each for each in project["dependencies"] if each.startswith("ray["))
    return f"ray=={bound.partition('>=')[2]}" if which == "oldest" else "ray"


def python_of(which: str, folder: Path) -> Path:
    """The interpreter of the version's environment, which is made if need be."""
    home, pins = folder / which, folder / f"{which}.txt"
    python = home / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    others = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("ray==")]
    pins.write_text("\n".join([*others, wanted(which) if which == "oldest" else ""]) + "\n")
    install = [python, "-m", "pip", "install", "--quiet", "-c", pins]
    subprocess.run([*install, "torch"], check=True)
    subprocess.run([*install, "--upgrade", wanted(which), "-e", f"{ROOT}[dev]"], check=True)
    return python


def told(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def tested(which: str, folder: Path, tests: str) -> dict[str, str]:
    """A row of the table."""
    python, report = python_of(which, folder), folder / f"{which}.xml"
    report.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # one of these may have been made elsewhere
    subprocess.run(
        [python, "-m", "pytest", "-m", tests, f"--junitxml={report}", "-p", "no:cacheprovider"], cwd=ROOT,
        env=environment, check=False,
    )  # fmt: skip
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    total, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    versions = told(python, "import platform, ray, torch; print(ray.__version__, platform.python_version(), "
                            "torch.__version__)").split()  # fmt: skip
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "ray": versions[0], "which": which, "date": datetime.date.today().isoformat(), "commit": commit.strip(),
        "python": versions[1], "torch": versions[2], "passed": str(total - skipped - failed), "failed": str(failed),
        "skipped": str(skipped), "minutes": f"{float(suite.attrib['time']) / 60:.0f}", "tests": f"`{tests}`",
    }  # fmt: skip


def keep(row: dict[str, str]) -> None:
    """In the place of what was there of the same version and tests."""
    rows = RESULTS.read_text().splitlines()[len(HEAD.splitlines()):] if RESULTS.exists() else []
    others = [line for line in rows if [each.strip() for each in line.split("|")][1::10] != [row["ray"], row["tests"]]]
    line = "| " + " | ".join(row.values()) + " |"
    RESULTS.write_text(HEAD + "\n".join(sorted([*others, line])) + "\n")
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--only", nargs="+", choices=("oldest", "newest"), default=["oldest", "newest"])
    parser.add_argument("--tests", default=TESTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.environments or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        failed = 0
        for which in arguments.only:
            row = tested(which, folder, arguments.tests)
            keep(row)
            failed += int(row["failed"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
