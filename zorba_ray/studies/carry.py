"""One run of a study: begun or gone on with by a driver in this process, its client actors on the quota in which it
stands. What goes wrong is a result."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger.snapshot import FOLDER as SNAPSHOTS
from zorba_ray.ledger.tensors import FOLDER as TENSORS
from zorba_ray.runs.folder import CannotWrite
from zorba_ray.studies.store import Outcome

if TYPE_CHECKING:
    from zorba_ray.runs.simulate import Event
    from zorba_ray.runtime.warm import Warm

LOST = "lost"  # a status: the run can go on elsewhere from where it is, and is no result


def carry(
    config: Config, folder: Path, warm: Warm | None = None, told: Callable[[Event], object] = lambda event: None
) -> Outcome:
    """Everything from config to summary; `told` hears what happens. A folder that holds a part of this run is gone on
    with; of another run it is cleared. Tensors and snapshots go in the end: a study keeps records, not weights.

    `status`: ok, diverged, infeasible (it never began), failed (a fault of the program or of the machine) or lost.
    """
    from zorba_ray.runtime.waiting import NoRoom
    from zorba_ray.world.world import Diverged

    started = time.perf_counter()
    status, message = "ok", ""
    try:
        drive(config, folder, can_go_on(config, folder), warm, told)
    except Diverged as error:
        status, message = "diverged", str(error)
    except NoRoom as error:
        status, message = LOST, str(error)
    except CannotWrite as error:
        status, message = "failed", str(error)
    except ConfigError as error:
        status, message = "infeasible", str(error)
    except Exception as error:
        lines = traceback.format_exception_only(error)
        status, message = "failed", f"{lines[-1].strip()}\n{traceback.format_exc()}"
    if status in ("ok", "diverged"):
        for name in (SNAPSHOTS, TENSORS):
            shutil.rmtree(folder / name, ignore_errors=True)
    return Outcome(status, message, time.perf_counter() - started)


def can_go_on(config: Config, folder: Path) -> bool:
    """Whether a part of this very run is there; of any other nothing is left."""
    from zorba_ray.runs.resume import can_resume, check_same

    with suppress(ConfigError):
        if can_resume(folder):
            check_same(config, folder, trusted=True)
            return True
    if folder.exists():
        shutil.rmtree(folder)
    return False


def drive(
    config: Config, folder: Path, resume: bool, warm: Warm | None, told: Callable[[Event], object]
) -> None:
    """The run's driver, to its end; one that goes wrong on its way is summarised, then raises."""
    from zorba_ray.runtime.driver import Driver

    started = time.perf_counter()
    driver = Driver(config, str(folder), resume, warm)
    try:
        driver.prepare()
        try:
            while events := driver.advance():
                for event in events:
                    told(event)
        except ConfigError as error:
            driver.finish(False, str(error), time.perf_counter() - started)
            raise
        driver.finish(False, "", time.perf_counter() - started)
    finally:
        driver.leave()
