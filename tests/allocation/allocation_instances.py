"""Instances for the tests: plain ones, and random ones of every regime."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from zorba_ray.allocation import Instance, VramModel
from zorba_ray.methods.fedspzo import Split


def vram_model(sizes: np.ndarray, resident: bool = False) -> VramModel:
    """float32 blocks of these sizes, with a small fixed part."""
    stored = 4.0 * sizes
    nothing = np.zeros_like(stored)
    return VramModel(
        fixed=70.0, active=stored, frozen=stored / 2 if resident else nothing, scratch=stored,
        transit=nothing if resident else stored, awake=30.0,
    )


def uniform_instance(clients: int, blocks: int, **changes: Any) -> Instance:
    """Equal blocks and clients, room for everything, statistics of 1."""
    sizes = np.full(blocks, 50.0)
    vram = vram_model(sizes)
    given: dict[str, Any] = {
        "budgets": np.full(clients, float(vram.of(np.ones(blocks, dtype=bool)))),
        "class_of": np.zeros(clients, dtype=np.int64),
        "class_names": ("all",),
        "vram": vram,
        "flops": 10 * sizes,
        "sizes": sizes,
        "weights": np.ones(clients),
        "coverage": np.ones(blocks, dtype=np.int64),
        "gradient": np.ones(blocks),
        "batch_variance": np.ones(blocks),
        "client_variance": np.ones(blocks),
        "smoothness": np.ones(blocks),
        "directions": 2,
        "lr": 1e-2,
        "passes": 4,
    }
    return Instance(**{**given, **changes})


def gains(blocks: int) -> list[np.ndarray]:
    """Of no split, twice as likely; of both forms of one; and of training with gradients."""
    split = Split(4, 2, max(blocks // 3, 1), False, "joint")
    sequence = replace(split, form="sequential")
    return [np.ones((1, 1)), np.ones((1, 1)), split.gain(blocks), sequence.gain(blocks), np.zeros((1, 1))]


def random_instance(rng: np.random.Generator, clients: int, blocks: int, classes: int, **changes: Any) -> Instance:
    """Unequal blocks, budgets, gradients and variances; every block fits every client, perhaps little more."""
    sizes = rng.integers(40, 160, blocks).astype(np.float64)
    vram = vram_model(sizes, resident=bool(rng.random() < 0.3))
    least, most = vram.alone().max(), float(vram.of(np.ones(blocks, dtype=bool)))
    levels = np.sort(least + rng.uniform(0, 1, classes) * max(most - least, 1.0) * rng.uniform(0.2, 1.1))
    class_of = rng.integers(0, classes, clients)
    given: dict[str, Any] = {
        "budgets": levels[class_of],
        "class_of": class_of,
        "class_names": tuple(f"class {k}" for k in range(classes)),
        "vram": vram,
        "flops": sizes * rng.uniform(5, 15),
        "sizes": sizes,
        "gradient": rng.lognormal(0, 1, blocks),
        "batch_variance": rng.lognormal(0, 1, blocks),
        "client_variance": rng.lognormal(0, 1, blocks) * rng.choice([0.1, 1.0, 10.0]),
        "smoothness": rng.lognormal(0, rng.choice([0.0, 1.5]), blocks),
        "lr": 10 ** rng.uniform(-3, 0),
        "flops_before": float(rng.uniform(0, 500)),
        "flops_after": float(rng.uniform(0, 500)),
        "kind": str(rng.choice(["gaussian", "rademacher"])),
        "gain": gains(blocks)[rng.integers(5)],
    }
    return uniform_instance(clients, blocks, **{**given, **changes})
