"""A disk of some KiB, as the kernel makes it: a tmpfs of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REFUSED = ("permission denied", "must be superuser", "only root", "operation not permitted")


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """Mounted at `place` for a while. The test skips where this user may not mount; any other trouble is a failure."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode and any(each in made.stderr.lower() for each in REFUSED):
        pytest.skip(f"this user may not mount a small disk: {made.stderr.strip()}")
    assert not made.returncode, made.stderr
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
