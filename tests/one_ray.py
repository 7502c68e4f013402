"""One Ray for all tests that want one, with client actors that are handed from run to run: importing torch is most of
what an actor costs. Runs on warm actors differ from a user's in this, and in that the driver is in this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zorba_ray.config.schema import Config
from zorba_ray.runs.folder import LEDGER

CPUS = 4
_idle: list[Any] = []
_up = False


def start() -> None:
    """Unless it is up already."""
    global _up
    import ray

    if not _up:
        ray.init(
            address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        _up = True


def stop() -> None:
    """For tests with a Ray or a cluster of their own."""
    global _up
    if _up:
        import ray

        _idle.clear()
        ray.shutdown()
        _up = False


def warm_starter(given: list[Any]) -> Callable[..., Callable[[Any], Any]]:
    """In the place of `launch.starter`: idle actors first; all that were given out are in `given`."""
    from zorba_ray.runtime import launch

    cold_starter = launch.starter

    def starter(cpu_share: float, threads: int, *rest: Any) -> Callable[[Any], Any]:
        cold = cold_starter(0.0, threads, *rest)  # kept actors must not keep CPUs

        def start(slot: Any) -> Any:
            given.append(_idle.pop() if _idle and threads == 1 and slot.gpu is None else cold(slot))
            return given[-1]

        return start

    return starter


@contextmanager
def driving(config: Config, folder: Path, resume: bool = False) -> Iterator[Any]:
    """A driver in this process, before its first round, on real client actors; those that live go on to the next."""
    import ray

    from zorba_ray.runtime import launch
    from zorba_ray.runtime.driver import Driver

    given: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "starter", warm_starter(given))
        driver = Driver(config, str(folder), resume)
        try:
            driver.prepare()
            yield driver
        finally:
            for actor in given:
                try:
                    ray.get(actor.__ray_ready__.remote())
                except ray.exceptions.RayError:
                    continue
                _idle.append(actor)


def finished(driver: Any) -> bytes:
    """The rest of the run; the ledger's bytes."""
    while driver.advance():
        pass
    driver.finish(False, "", 1.0)
    return bytes((driver.folder / LEDGER).read_bytes())


def run_warm(config: Config, folder: Path) -> bytes:
    """A whole run; the ledger's bytes."""
    with driving(config, folder) as driver:
        return finished(driver)

