"""What a wheel carries, and that it stands alone: unpacked, it runs and finds its files from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from zorba_ray import __version__

ROOT = Path(__file__).resolve().parents[2]
FINDS = """
import sys
from importlib import metadata
from pathlib import Path
import zorba_ray
from zorba_ray import load_config
from zorba_ray.config.shipped import FOLDERS, files_in, find_file
from zorba_ray.studies.spec import find_study

site = Path(sys.argv[1])
assert Path(zorba_ray.__file__).is_relative_to(site), zorba_ray.__file__
assert metadata.version("zorba-ray") == zorba_ray.__version__
for folder in FOLDERS:
    for path in files_in(folder):
        assert path.is_relative_to(site) and find_file(path.name) == path
        if folder in ("", "methods", "paper"):
            load_config(path.stem)
        if folder == "studies":
            assert find_study(path.stem) == path
"""
RUN = ["rounds=2", "clients.count=3", "clients.batch=2", "zo.directions=2", "evaluation.examples=8"]


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what a release has."""
    source, built = (tmp_path_factory.mktemp(name) for name in ("source", "built"))
    for name in ("zorba_ray", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", built, source]
    made = subprocess.run(build, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, unpacked."""
    unpacked = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(unpacked)
    return unpacked


def alone(site: Path, folder: Path, *line: str) -> None:
    """Python from an empty folder, with the wheel before all else on its path."""
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    made = subprocess.run(
        [sys.executable, *line], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert made.returncode == 0, made.stderr


@pytest.mark.slow
def test_a_wheel_carries_the_package_and_its_configs_and_nothing_else(site: Path) -> None:
    (about,) = site.glob("*.dist-info")
    assert about.name == f"zorba_ray-{__version__}.dist-info"
    assert {path.name for path in site.iterdir()} == {"zorba_ray", about.name}
    configs = {f"configs/{name}" for name in files(ROOT / "configs")}
    assert files(site / "zorba_ray") == files(ROOT / "zorba_ray") | configs
    assert "py.typed" in files(site / "zorba_ray")


@pytest.mark.slow
def test_a_wheel_finds_its_files_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    alone(site, tmp_path, "-c", FINDS, str(site))


@pytest.mark.slow
def test_a_wheel_runs_the_default_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    alone(site, tmp_path, "-m", "zorba_ray", "run", "--local", *RUN, f"out={tmp_path / 'run'}")
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.release
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_an_installed_wheel_runs_the_default_on_ray(wheel: Path, tmp_path: Path) -> None:
    """As a user has it: an environment of its own, with all that the wheel asks for, and the command from anywhere."""
    place = tmp_path / "environment"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    for what in ("torch", str(wheel)):
        install = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", what]
        made = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    command = [place / "bin" / "zorba-ray", "run", "out=run"]
    made = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told["rounds_done"] == 100 and told["accuracy_last"] > 0.9 and (tmp_path / "run" / "report.html").is_file()


def test_every_room_is_a_package_of_the_wheel() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    rooms = {path.parent for path in (ROOT / "zorba_ray").rglob("*.py")}
    assert set(told) - {"zorba_ray.configs"} == {".".join(room.relative_to(ROOT).parts) for room in rooms}


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__ and cited["cff-version"] == "1.2.0" and cited["authors"]
