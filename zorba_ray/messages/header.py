"""What a run's steps refer to: its base, its blocks, and how a direction becomes numbers."""

from __future__ import annotations

from dataclasses import dataclass

from zorba_ray.noise import Kind


@dataclass(frozen=True)
class BlockInfo:
    """What a reader must know of a block: its column is its place in the header's list."""

    name: str
    noise_id: int
    size: int


@dataclass(frozen=True)
class Header:
    """What the entries refer to: the base (by digest), the blocks, and how a direction becomes numbers."""

    method: str
    seed: int
    noise: Kind
    base_sha256: str
    blocks: tuple[BlockInfo, ...]
