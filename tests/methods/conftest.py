"""Shared by the tests of methods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zorba_ray.config.schema import METHOD_NAMES
from zorba_ray.methods import METHODS


@pytest.fixture
def no_trace() -> Iterator[None]:
    """Whatever a test registers is forgotten."""
    names, methods = list(METHOD_NAMES), dict(METHODS)
    yield
    METHOD_NAMES[:] = names
    METHODS.clear()
    METHODS.update(methods)
