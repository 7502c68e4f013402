"""Disks that are full or read-only, as the kernel makes them: one line, nothing lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs.toy_runs import ESTIMATED, open_run, outcome, run
from small_disk import remount, small_disk

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger import read_ledger
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.resume import resumed_config

LONG = (*ESTIMATED, "rounds=60", "evaluation.every=5")
DISK = 300  # KiB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    with small_disk(place, f"{DISK}k"):
        yield place


def live(folder: Path) -> None:
    """As the front end does: rounds, and whatever comes of them, the summary at the end."""
    simulation = open_run(folder, *LONG)
    try:
        while simulation.advance():
            pass
    finally:
        simulation.finish()


@pytest.mark.parametrize("room", [8, 16, 20, 24, 28, 44])  # KiB: in the plans, the ledger, the records, the summary
def test_a_disk_that_fills_is_one_line_and_loses_nothing(tmp_path: Path, disk: Path, room: int) -> None:
    run(tmp_path / "whole", *LONG)
    folder = disk / "run"
    (disk / "filler").write_bytes(bytes((DISK - room) * 1024))
    with pytest.raises(ConfigError, match=r"cannot write to .*: No space left on device") as caught:
        live(folder)
    assert "\n" not in str(caught.value)
    begun = (folder / LEDGER).exists()
    assert begun == (f"Make room, then go on by  python -m zorba_ray.run --resume {folder}" in str(caught.value))
    if begun:
        assert not read_ledger(folder / LEDGER).cut
        assert (tmp_path / "whole" / LEDGER).read_bytes().startswith((folder / LEDGER).read_bytes())
    remount(disk, "size=8m")
    run(folder, *LONG, resume=begun)
    assert outcome(folder) == outcome(tmp_path / "whole")
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp") or path.name == "lock"]


def test_a_disk_that_is_read_only_is_one_line(disk: Path) -> None:
    run(disk / "run", *ESTIMATED, "rounds=2")
    remount(disk, "ro")
    with pytest.raises(ConfigError, match=r"cannot write to .*: Read-only file system; choose another `out`"):
        run(disk / "new", *ESTIMATED)
    said = re.escape(f"Make room, then go on by  python -m zorba_ray.run --resume {disk / 'run'}")
    with pytest.raises(ConfigError, match=rf"cannot write to .*: Read-only file system; .* {said}"):
        resumed_config(disk / "run", ["rounds=3"])
