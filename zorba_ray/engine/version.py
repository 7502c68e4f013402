"""Versions of a block and paths of versions through the model."""

from __future__ import annotations

from dataclasses import dataclass

from zorba_ray.noise import Term


@dataclass(frozen=True)
class Frozen:
    """A block as a client sees it that keeps it in few bits because it does not tune it."""


Version = tuple[Term, ...] | Frozen  # base + Σ c z; (d, +μ) is ((d, mu),)
Path = tuple[Version, ...]  # one version per column of the allocation

CLEAN: Version = ()
FROZEN: Version = Frozen()
