"""Versions of a block and paths of versions through the model."""

from __future__ import annotations

from zorba_ray.noise import Term

Version = tuple[Term, ...]  # base + Σ c z; (d, +μ) is ((d, mu),)
Path = tuple[Version, ...]  # one version per column of the allocation

CLEAN: Version = ()
