"""The files that come with the package and where they lie: presets of runs and methods, studies, clusters' files."""

from __future__ import annotations

from pathlib import Path

from zorba_ray.config.errors import ConfigError

FOLDERS = {
    "": "presets of runs", "methods": "presets of methods", "paper": "published settings", "studies": "studies",
    "cluster": "clusters",
}  # fmt: skip


def configs_folder() -> Path:
    """Beside the package in a checkout, which an editable install is too; inside the package in a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


CONFIGS = configs_folder()


def files_in(folder: str) -> list[Path]:
    """The files of one of FOLDERS."""
    return sorted(path for path in (CONFIGS / folder).glob("*") if path.is_file())


def find_file(name: str) -> Path:
    """Any of the files, by its name with or without its ending."""
    files = [path for folder in FOLDERS for path in files_in(folder)]
    for found in (path for each in ("name", "stem") for path in files if getattr(path, each) == name):
        return found
    raise ConfigError(f"no file called {name!r} comes with zorba_ray; `zorba-ray configs` lists those that do")
