"""Shared by all tests: one thread, where the real data lies, and small runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it, and so would our children


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets and pretrained models; the test skips where it is absent."""
    folder = Path(os.environ.get("ZORBA_RAY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip(f"no real data at {folder}; set ZORBA_RAY_SHARED to the folder that holds data/ and models/")
    return folder


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray on this machine for all tests of a module that want one (other modules join clusters of their own)."""
    import logging

    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture
def no_trace() -> Iterator[None]:
    """Whatever method a test registers is forgotten."""
    from zorba_ray.methods import METHODS

    methods = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(methods)
