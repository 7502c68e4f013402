"""One run of a study, from config to files, in this process and on one thread. What goes wrong is a result."""

from __future__ import annotations

import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config

KEPT = ("config.yaml", "allocation*.json", "statistics*.json", "ledger.jsonl", "summary.json", "records/*.parquet")


@dataclass(frozen=True)
class Carried:
    """What came of a run. `status`: ok, diverged, infeasible (it never began) or failed (a fault of the program)."""

    status: str
    message: str  # why, where it is not ok
    seconds: float
    files: dict[str, bytes]  # by path below the run's folder


def carry(config: Config, device: str) -> Carried:
    """Run in a folder of this machine's own; the files travel back, so that nodes need share no disk.

    Tensors that a first-order method keeps beside its ledger stay behind: a study keeps records, not weights.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="zorba-study-") as place:
        folder = Path(place) / "run"
        try:
            status, message = simulate(config, folder, device)
        except Exception as error:
            lines = traceback.format_exception_only(error)
            status, message = "failed", f"{lines[-1].strip()}\n{traceback.format_exc()}"
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes() for pattern in KEPT for path in folder.glob(pattern)
        }
        return Carried(status, message, time.perf_counter() - started, files)


def simulate(config: Config, folder: Path, device: str) -> tuple[str, str]:
    """Status and message of a run."""
    import torch

    from zorba_ray.rounds.local import LocalBackend
    from zorba_ray.runs.prepare import build_host, prepare
    from zorba_ray.runs.session import Session
    from zorba_ray.runs.summary import environment
    from zorba_ray.world.world import Diverged

    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        prepared = prepare(config)
    except ConfigError as error:
        return "infeasible", str(error)
    session = Session(config, prepared, folder, resume=False)
    host = build_host(prepared.base, device)
    backend = LocalBackend(host, prepared.test_examples)
    status = message = ""
    try:
        for _ in session.events(backend):
            pass
    except Diverged as error:
        status, message = "diverged", str(error)
    except ConfigError as error:
        status, message = "infeasible", str(error)
    session.finish(
        placement="in process",
        environment=environment(1),
        model_sha256=host.digest(),
        seconds=time.perf_counter() - started,
        interrupted=False,
        stopped=message,
    )
    return status or "ok", message
