"""All that decides an allocation: budgets, memory, compute, weights, statistics of the blocks, settings of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import AllocationConfig, Config
from zorba_ray.engine.memory import Floats, Matrix, ModelShape, VramModel
from zorba_ray.methods import Forked, forked_of, has_gradients, local_steps
from zorba_ray.world.budgets import Budgets
from zorba_ray.world.participation import typical


@dataclass(frozen=True)
class Instance:
    """One allocation problem of N clients and L blocks."""

    budgets: Floats  # [N] bytes
    class_of: NDArray[np.int64]  # [N] clients of one class have equal budgets
    class_names: tuple[str, ...]
    vram: VramModel
    flops: Floats  # [L] of one forward through a block, of the round's mini-batches (one each local step) together
    sizes: Floats  # [L] trainable numbers d_l
    weights: Floats  # [N] w_n > 0
    coverage: NDArray[np.int64]  # [L] m_min
    gradient: Floats  # [L] G, squared norm of the mean gradient
    batch_variance: Floats  # [L] σ², of a mini-batch gradient
    client_variance: Floats  # [L] ζ², of the clients' gradients around their mean
    smoothness: Floats  # [L] Λ, curvature of the loss per trainable number
    directions: int = 1  # P
    lr: float = 1e-3  # η
    shared: bool = True  # one direction for all clients, or each its own
    kind: str = "gaussian"
    passes: int = 2  # evaluations of what follows the first active block: 2P two-sided, P + 1 one-sided; with a split
    split: Forked | None = None  # these are the least, 2·P₁, and it knows how many they are
    gain: Floats = field(default_factory=lambda: np.ones((1, 1)))  # [L, L], or one for all: `methods.method.Forked`
    horizon: float = 1.0  # x, the share of the way to what a plan can reach that a run is to go: what lasts counts so
    rotate: bool = False  # rows are permuted among clients of a class from round to round
    participants: int = 0  # clients of a round, drawn uniformly; 0: all
    flops_before: float = 0.0  # stages before the first block
    flops_after: float = 0.0  # and after the last
    block_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("flops", "sizes", "coverage", "gradient", "batch_variance", "client_variance", "smoothness"):
            assert getattr(self, name).shape == (self.blocks,), f"{name} must have one entry per block"
        for name in ("weights", "class_of"):
            assert getattr(self, name).shape == (self.clients,), f"{name} must have one entry per client"
        assert (self.weights > 0).all(), "weights must be above 0"

    @property
    def clients(self) -> int:
        return len(self.budgets)

    @property
    def blocks(self) -> int:
        return self.vram.blocks

    @property
    def taking_part(self) -> int:
        return self.participants or self.clients

    @cached_property
    def members(self) -> list[NDArray[np.int64]]:
        """Clients of each class."""
        return [np.flatnonzero(self.class_of == k).astype(np.int64) for k in range(len(self.class_names))]

    @cached_property
    def class_budgets(self) -> Floats:
        """[K]; the smallest of a class, should they differ; nan where a class has no client."""
        return np.array([self.budgets[m].min() if len(m) else np.nan for m in self.members])

    @cached_property
    def equal_weights(self) -> bool:
        return bool(np.ptp(self.weights) <= 1e-12 * self.weights.max())

    def name(self, block: int) -> str:
        return self.block_names[block] if self.block_names else f"block {block}"

    def compute(self, rows: Matrix) -> Floats:
        """FLOPs of a round for each row [..., L]: trie edges weighted by their cost.

        The clean prefix before the first active block is computed once, what follows once per version. A client
        without active blocks has no probe and computes nothing.
        """
        any_active = rows.any(axis=-1)
        after_first = np.maximum.accumulate(rows, axis=-1)
        times = self.split.versions(rows) if self.split else np.where(after_first, self.passes, 1)
        cost = self.flops_before + times @ self.flops + times[..., -1] * self.flops_after
        return np.asarray(np.where(any_active, cost, 0.0), dtype=np.float64)

    def slack(self, matrix: Matrix) -> Floats:
        """Bytes of budget that each client has left, [N]; negative where it does not fit."""
        return self.budgets - self.vram.of(matrix)

    def infeasible(self, matrix: Matrix) -> str:
        """Why a matrix is no allocation of this instance; empty when it is one."""
        over = int((self.slack(matrix) < 0).sum())
        thin = [self.name(int(block)) for block in np.flatnonzero(matrix.sum(axis=0) < self.coverage)]
        reasons = [f"{over} of {self.clients} clients over budget"] if over else []
        reasons += [f"too few clients tune {', '.join(thin[:3])}{' …' * (len(thin) > 3)}"] if thin else []
        return "; ".join(reasons)


def instance_from(
    config: Config, shape: ModelShape, vram: VramModel, budgets: Budgets, weights: Sequence[float] | Floats
) -> Instance:
    """The allocation problem of a run. `weights` are the clients' numbers of samples, or ones."""
    blocks, settings = len(shape.trainable), config.allocation
    with_gradients, steps = has_gradients(config), local_steps(config)
    forward = config.zo.estimator == "forward"
    split = forked_of(config, blocks)
    return Instance(
        budgets=budgets.bytes,
        class_of=budgets.class_of,
        class_names=budgets.names,
        vram=vram,
        flops=steps * np.asarray(shape.flops, dtype=np.float64),
        sizes=np.asarray(shape.trainable, dtype=np.float64),
        weights=np.asarray(weights, dtype=np.float64),
        coverage=coverage_of(settings, blocks),
        gradient=statistic(settings.gradient, blocks, "gradient"),
        batch_variance=statistic(settings.batch_variance, blocks, "batch_variance"),
        client_variance=statistic(settings.client_variance, blocks, "client_variance"),
        smoothness=statistic(settings.smoothness, blocks, "smoothness"),
        directions=config.zo.directions,
        lr=config.step.lr,
        shared=config.zo.shared,
        kind=config.zo.noise,
        passes=2 * split.pairs if split else config.zo.directions + 1 if forward else 2 * config.zo.directions,
        split=split,
        gain=np.zeros((1, 1)) if with_gradients else split.gain(blocks) if split else np.ones((1, 1)),
        horizon=settings.horizon,
        rotate=settings.rotate,
        participants=typical(config),
        flops_before=steps * shape.flops_before,
        flops_after=steps * shape.flops_after,
        block_names=shape.names,
    )


def coverage_of(settings: AllocationConfig, blocks: int) -> NDArray[np.int64]:
    """m_min of each block."""
    if settings.coverage_per_block and len(settings.coverage_per_block) != blocks:
        given = len(settings.coverage_per_block)
        raise ConfigError(f"allocation.coverage_per_block has {given} entries, the model has {blocks} blocks")
    each = 1 if settings.coverage < 0 else settings.coverage
    return np.asarray(settings.coverage_per_block or [each] * blocks, dtype=np.int64)


def statistic(values: Sequence[float], blocks: int, name: str) -> Floats:
    """One number per block; a single one holds for all, and 1 when none is given."""
    if len(values) not in (0, 1, blocks):
        raise ConfigError(f"allocation.{name} has {len(values)} entries, the model has {blocks} blocks")
    return np.broadcast_to(np.asarray(values or [1.0], dtype=np.float64), blocks).copy()
