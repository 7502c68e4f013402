"""The front end of one run: started in this process or on Ray, shown while it goes, ended cleanly on Ctrl-C."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from zorba_ray.commands.signals import GRACE, Signals
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.report.display import Display
from zorba_ray.report.run_page import write_report
from zorba_ray.runs.config import ignored
from zorba_ray.runs.folder import make_folder, resume_line
from zorba_ray.runs.simulate import Event, Here, begin
from zorba_ray.runs.summary import Summary

BackendName = Literal["ray", "local"]


class Led(Protocol):
    """A run that the front end leads: `runs.simulate.Simulation`, or the driver's actor behind `Remote`."""

    folder: Path

    def advance(self) -> list[Event]: ...

    def finish(
        self, interrupted: bool, stopped: str, seconds: float, report: Callable[[Path], object] | None
    ) -> Summary: ...


@dataclass(frozen=True)
class Ended:
    summary: Summary
    folder: Path


def conduct(
    config: Config,
    folder: Path,
    resume: bool,
    backend: BackendName,
    display: Display,
    started: float,
    signals: Signals | None = None,
) -> Ended:
    """A whole run, or what is left of one. ConfigError, after its summary was written, where it stopped by itself
    because something is wrong; what reaches a target (`stop.*`) has ended well."""
    site = on_ray if backend == "ray" else in_process
    if not resume and (backend == "local" or config.runtime.address == "local"):  # else the driver makes it, elsewhere
        folder = make_folder(config, folder)
    with display:
        for note in ignored(config):
            display.note(note)
        with site(config, folder, resume, display) as run:
            if signals is not None:
                signals.folder, signals.begun = run.folder, True
            interrupted, stopped = False, ""
            try:
                while events := run.advance():
                    for event in events:
                        display.event(event)
            except KeyboardInterrupt:
                interrupted = True
                if signals is not None and signals.terminated and isinstance(run, Remote):
                    run.actor.halt.remote(GRACE)
                display.note("stopping after this round …")
            except ConfigError as error:
                stopped = str(error)
            summary = run.finish(interrupted, stopped, time.perf_counter() - started, write_report)
            display.finish(summary, run.folder)
    if stopped:
        raise ConfigError(stopped)
    return Ended(summary, run.folder)


@contextmanager
def in_process(config: Config, folder: Path, resume: bool, display: Display) -> Iterator[Led]:
    """Without Ray; the oracle of the other way."""
    device = "cuda" if config.runtime.device == "cuda" else "cpu"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("runtime.device=cuda, but this process sees no GPU; use runtime.device=auto or cpu")
    simulation = begin(config, folder, resume, Here(device, config.runtime.threads))
    for note in simulation.session.notes:
        display.note(note)
    display.begin(simulation.session.ledger.rounds)
    yield simulation


@dataclass
class Remote:
    """The driver's actor. While it works, the display says what it does."""

    actor: Any
    folder: Path
    display: Display
    patience: float

    def ask(self, reference: Any) -> Any:
        from zorba_ray.runtime.follow import follow

        return follow(self.actor, reference, self.display.note, self.display.stage, self.patience)

    def advance(self) -> list[Event]:
        events: list[Event] = self.ask(self.actor.advance.remote())
        return events

    def finish(self, *arguments: Any) -> Summary:
        summary: Summary = self.ask(self.actor.finish.remote(*arguments))
        return summary


@contextmanager
def on_ray(config: Config, folder: Path, resume: bool, display: Display) -> Iterator[Led]:
    """A Ray that is up in this process is used, whatever `runtime.address` says, and left up."""
    display.stage("starting Ray")
    import ray

    from zorba_ray.runtime.alone import write_access
    from zorba_ray.runtime.connect import connect, start_driver, through_client
    from zorba_ray.runtime.driver import Driver

    access: Path | None = None
    guest = ray.is_initialized()
    driver: Any = None
    try:
        if not guest:
            for note in connect(config.runtime.address):
                display.note(note)
        where = folder if through_client() else folder.absolute()
        driver = start_driver(Driver, config, str(where), resume)
        remote = Remote(driver, folder, display, config.runtime.patience)
        briefing = remote.ask(driver.prepare.remote())
        if briefing.machine != platform.node():
            folder = Path(briefing.folder)
            display.note(f"the run's folder is {folder} on {briefing.machine}, where the driver is")
        folder = folder.with_name(Path(briefing.folder).name)  # with a number, where another run has the name
        remote.folder = folder
        for note in briefing.notes:
            display.note(note)
        display.begin(briefing.rounds_done)
        access = None if guest else write_access(folder)
        yield remote
    except (ray.exceptions.RayActorError, ConnectionError) as error:
        what = "driver" if isinstance(error, ray.exceptions.RayActorError) else "connection to the cluster"
        why = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"the {what} died ({why}). What is in the ledger is kept: {resume_line(folder)}") from None
    finally:
        with suppress(OSError):  # only an empty one: made in vain
            folder.rmdir()
        if access is not None:
            access.unlink(missing_ok=True)
        if not guest:
            ray.shutdown()
        elif driver is not None:
            ray.kill(driver)  # its clients, which it owns, end with it
