"""Shared by all tests: one thread, where the real data lies, and small runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import one_ray
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default is 15, and the tests beside them would starve actors
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it, and so would our children

# A busy machine is no bug: no property has a deadline. Under CI the examples are the same at every run, so that a
# failure there comes from the change; elsewhere each run looks at new ones, and .hypothesis/ keeps what failed.
settings.register_profile(
    "zorba_ray", deadline=None, derandomize="CI" in os.environ, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.load_profile("zorba_ray")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets and pretrained models; the test skips where it is absent."""
    folder = Path(os.environ.get("ZORBA_RAY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip(f"no real data at {folder}; set ZORBA_RAY_SHARED to the folder that holds data/ and models/")
    return folder


@pytest.fixture
def local_ray() -> None:
    """One Ray on this machine for all tests that ask for it; whoever does is marked `ray`."""
    one_ray.start()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks are there before they select; tests on the one Ray come first, so that it starts once."""
    for item in items:
        if wants_local_ray(item):
            item.add_marker(pytest.mark.ray)
    items.sort(key=lambda item: not wants_local_ray(item))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Others marked `ray` start or join one of their own."""
    if item.get_closest_marker("ray") and not wants_local_ray(item):
        one_ray.stop()


def pytest_sessionfinish() -> None:
    one_ray.stop()


def wants_local_ray(item: pytest.Item) -> bool:
    return "local_ray" in getattr(item, "fixturenames", ())


@pytest.fixture
def no_trace() -> Iterator[None]:
    """Whatever method a test registers is forgotten."""
    from zorba_ray.methods import METHODS

    methods = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(methods)
