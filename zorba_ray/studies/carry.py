"""One run of a study, from config to files, in this process and on one thread. What goes wrong is a result."""

from __future__ import annotations

import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.runs.folder import PLANNED, CannotWrite

KEPT = (
    "config.yaml", "bound.json", "method_file.py", *PLANNED, "ledger.jsonl", "summary.json", "records/*/*/*.parquet",
    "tracking/**/*",
)  # fmt: skip


@dataclass(frozen=True)
class Carried:
    """What came of a run. `status`: ok, diverged, infeasible (it never began) or failed (a fault of the
    program or of the machine)."""

    status: str
    message: str  # why, where it is not ok
    seconds: float
    files: dict[str, bytes]  # by path below the run's folder


def carry(config: Config, device: str, name: str) -> Carried:
    """Run in a folder of this machine's own, whose `name` trackers see; the files travel back, so that nodes need share
    no disk.

    Tensors that a first-order method keeps beside its ledger stay behind: a study keeps records, not weights.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="zorba-study-") as place:
        folder = Path(place) / name
        try:
            status, message = outcome(config, folder, device)
        except Exception as error:
            lines = traceback.format_exception_only(error)
            status, message = "failed", f"{lines[-1].strip()}\n{traceback.format_exc()}"
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for pattern in KEPT
            for path in folder.glob(pattern)
            if path.is_file()
        }
        return Carried(status, message, time.perf_counter() - started, files)


def outcome(config: Config, folder: Path, device: str) -> tuple[str, str]:
    """Status and message of a run."""
    from zorba_ray.runs.simulate import Here, simulate
    from zorba_ray.world.world import Diverged

    try:
        simulate(config, folder, Here(device))
    except Diverged as error:
        return "diverged", str(error)
    except CannotWrite as error:
        return "failed", str(error)
    except ConfigError as error:
        return "infeasible", str(error)
    return "ok", ""
