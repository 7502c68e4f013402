"""From which commit this zorba_ray runs, where it is a checkout and git is there to tell."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import zorba_ray

CHANGED = "with changes"
PATIENCE = 5.0  # seconds


@cache
def source_state() -> str:
    """The commit, and whether files that it has were changed since; empty: installed, or nobody can tell. As it was
    when this process first asked: that is about what it imported."""
    root = Path(zorba_ray.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    commit, changes = told(root, "rev-parse", "HEAD"), told(root, "status", "--porcelain", "--untracked-files=no")
    return "" if commit is None or changes is None else f"{commit} {CHANGED}" if changes else commit


def told(root: Path, *arguments: str) -> str | None:
    try:
        line = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
