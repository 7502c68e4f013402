"""The front end's view of a driver at work: its answer, and until then the stage that it is in and what it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.words import duration
from zorba_ray.runtime.launch import answer
from zorba_ray.runtime.waiting import GLANCE, SPEAK, taken


def follow(
    driver: Any, reference: Any, note: Callable[[str], None], stage: Callable[[str], None], patience: float
) -> Any:
    """The answer to a call of the driver. Whoever waits hears why: `stage` is told what the driver does, `note` its
    lines; a driver that says nothing at all was not started yet, and is given up after the patience."""
    heard, speak = time.monotonic(), SPEAK
    asked = driver.news.remote()
    while not ray.wait([reference], timeout=GLANCE)[0]:
        if ray.wait([asked], timeout=0)[0]:
            bulletin = ray.get(asked)
            stage(bulletin.stage)
            for line in bulletin.lines:
                note(line)
            heard, speak, asked = time.monotonic(), SPEAK, driver.news.remote()
            continue
        silent = time.monotonic() - heard
        if silent > patience:
            raise ConfigError(f"the driver gave no sign of life for {duration(silent)}; {taken()}")
        if silent > speak:
            note(f"waiting for the driver's actor since {duration(silent)}, at most {duration(patience)}; {taken()}")
            speak *= 2
    return answer(reference)
