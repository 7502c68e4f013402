"""`python -m zorba_ray.run [CONFIG] [key=value …]`: one run, from config to report."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from zorba_ray.commands.entry import INTERRUPTED, enter
from zorba_ray.commands.line import RUN, Command
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.config.schema import Config
from zorba_ray.runs.config import ignored, load_config


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    started = time.perf_counter()
    return enter(RUN, argv, lambda command: run(command, started))


def run(command: Command, started: float) -> int:
    """Everything that can be wrong in the command or the config stops here, before anything starts."""
    resume = Path(command.flags["--resume"]) if "--resume" in command.flags else None
    overrides = list(command.overrides)
    if "--address" in command.flags:
        overrides.append(f"runtime.address={command.flags['--address']}")
    if resume:
        config, folder = resumed(resume, command.config_path, overrides)
    else:
        config = load_config(command.config_path, overrides, command.more)
        folder = run_folder(config)
    if "--print-config" in command.flags:
        print(to_yaml(config), end="")
        return 0
    return simulate(config, folder, resume is not None, started)


def run_folder(config: Config) -> Path:
    """`out`, or runs/NAME-TIME; never one that holds a run already."""
    from zorba_ray.runs.folder import refuse_used_folder

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(config.out) if config.out else Path("runs") / f"{config.name}-{stamp}"
    refuse_used_folder(folder)
    return folder


def resumed(folder: Path, config_path: str | None, overrides: Sequence[str]) -> tuple[Config, Path]:
    """A resumed run keeps the config it was begun with; only where it computes may change."""
    from zorba_ray.runs.folder import stored_config

    free = ("runtime.", "placement=")
    if config_path or any(not override.startswith(free) for override in overrides):
        raise ConfigError("a resumed run keeps its config; only placement and runtime.* may be given with --resume")
    return stored_config(folder, overrides), folder


def simulate(config: Config, folder: Path, resume: bool, started: float) -> int:
    """Start Ray and the driver actor, show what it does, and end cleanly on Ctrl-C."""
    import ray

    from zorba_ray.report.display import Display
    from zorba_ray.report.run_page import write_report
    from zorba_ray.runs.folder import resume_line
    from zorba_ray.runtime.connect import connect, start_driver, through_client
    from zorba_ray.runtime.driver import Driver
    from zorba_ray.runtime.launch import answer

    try:
        with Display(config.rounds, config.name) as display:
            for note in ignored(config):
                display.note(note)
            connect(config.runtime.address)
            where = folder if through_client() else folder.absolute()
            driver: Any = start_driver(Driver, config, str(where), resume)
            briefing = answer(driver.prepare.remote())
            if briefing.machine != platform.node():
                folder = Path(briefing.folder)
                display.note(f"the run's folder is {folder} on {briefing.machine}, where the driver is")
            for note in briefing.notes:
                display.note(note)
            display.begin(briefing.rounds_done)
            interrupted, stopped = False, ""
            try:
                while events := answer(driver.advance.remote()):
                    for event in events:
                        display.event(event)
            except KeyboardInterrupt:
                interrupted = True
                display.note("stopping after this round …")
            except ConfigError as error:
                stopped = str(error)
            summary = answer(driver.finish.remote(interrupted, stopped, time.perf_counter() - started, write_report))
            display.finish(summary, folder)
        if stopped:
            raise ConfigError(stopped)
        return INTERRUPTED if interrupted else 0
    except (ray.exceptions.RayActorError, ConnectionError) as error:
        what = "driver" if isinstance(error, ray.exceptions.RayActorError) else "connection to the cluster"
        why = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"the {what} died ({why}). What is in the ledger is kept: {resume_line(folder)}") from None
    finally:
        ray.shutdown()

