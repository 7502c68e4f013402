"""The bound against a Monte Carlo of the estimator itself: losses of quadratics at θ ± μz, scalars, steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.allocation.instances import uniform_instance
from zorba_ray.allocation import Bound, Instance
from zorba_ray.noise import Domain, generator

N, L, D, P = 8, 6, 60, 3
TRIALS = 1500
WITHIN = 0.05


@dataclass(frozen=True)
class Quadratics:
    """f_n(θ) = ½‖θ − c_n‖² on each block, so that ∇f_n(θ) = θ − c_n and a two-point difference is exact."""

    gradients: NDArray[np.float64]  # [N, L, D] at θ, of the full loss of each client


def draw(instance: Instance, rng: np.random.Generator) -> Quadratics:
    """Gradients with exactly the instance's G, and with deviations exchangeable over clients as the bound assumes."""
    n, blocks, d = instance.clients, instance.blocks, int(instance.sizes[0])
    omega = instance.weights / instance.weights.sum()
    mean = rng.standard_normal((blocks, d))
    mean *= np.sqrt(instance.gradient)[:, None] / np.linalg.norm(mean, axis=1, keepdims=True)
    apart = rng.standard_normal((n, blocks, d)) * np.sqrt(instance.client_variance / d)[:, None]
    apart -= np.einsum("n,nld->ld", omega, apart)
    if n > 1:
        apart /= np.sqrt(1 - (omega**2).sum())
    return Quadratics(mean + apart)


def error(instance: Instance, matrix: NDArray[np.bool_], trials: int, rng: np.random.Generator) -> tuple[float, float]:
    """Measured E‖ĝ − ∇f‖² and E‖mean ĝ − ∇f‖², the latter over rounds of one population, averaged over populations."""
    n, blocks, d, p = instance.clients, instance.blocks, int(instance.sizes[0]), instance.directions
    omega = instance.weights / instance.weights.sum()
    total = 0.0
    mu = 1e-3
    for _ in range(trials):
        centre = draw(instance, rng).gradients
        target = np.einsum("n,nld->ld", omega, centre)
        noise = rng.standard_normal((n, blocks, d)) * np.sqrt(instance.batch_variance / d)[:, None]
        away = centre + noise  # θ − c_n of the mini-batch's loss
        if instance.kind == "gaussian":
            z = rng.standard_normal((1 if instance.shared else n, p, blocks, d))
        else:
            z = rng.choice([-1.0, 1.0], (1 if instance.shared else n, p, blocks, d))
        masked = np.where(matrix[:, None, :, None], z, 0.0)  # [N, P, L, D]
        plus = 0.5 * ((away[:, None] + mu * masked) ** 2).sum(axis=(2, 3))
        minus = 0.5 * ((away[:, None] - mu * masked) ** 2).sum(axis=(2, 3))
        rho = (plus - minus) / (2 * mu)  # [N, P]
        part = np.zeros(n, dtype=bool)
        part[rng.choice(n, instance.taking_part, replace=False)] = True
        w = instance.weights[:, None] * (matrix & part[:, None])  # [N, L]
        share = w / np.where(w.sum(axis=0) > 0, w.sum(axis=0), 1.0)
        step = np.einsum("nl,np,npld->ld", share, rho, np.broadcast_to(z, (n, p, blocks, d))) / p
        total += float(((step - target) ** 2).sum())
    return total / trials, 0.0


def activations(rng: np.random.Generator) -> dict[str, NDArray[np.bool_]]:
    disjoint = np.arange(N)[:, None] % L == np.arange(L)
    overlapping = (np.arange(L) - np.arange(N)[:, None]) % L < 3
    unequal = rng.random((N, L)) < np.linspace(0.2, 0.9, N)[:, None]
    unequal[0] = unequal[:, 0] = True
    return {"full": np.ones((N, L), dtype=bool), "disjoint": disjoint, "overlapping": overlapping, "unequal": unequal}


VARIANTS = {
    "shared": {},
    "private": {"shared": False},
    "rademacher": {"kind": "rademacher"},
    "rademacher private": {"kind": "rademacher", "shared": False},
    "weights": {"weights": np.linspace(1.0, 4.0, N)},
    "weights private": {"weights": np.linspace(1.0, 4.0, N), "shared": False},
    "participants": {"participants": 3},
    "participants private": {"participants": 3, "shared": False},
    "participants weights": {"participants": 5, "weights": np.linspace(1.0, 2.0, N)},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["full", "disjoint", "overlapping", "unequal"])
def test_squared_error_matches_monte_carlo(name: str, variant: str) -> None:
    rng = generator(1, Domain.FAULTS)
    matrix = activations(generator(2, Domain.FAULTS))[name]
    instance = replace(base(), **VARIANTS[variant])
    value = Bound(instance).of(matrix)
    measured, _ = error(instance, matrix, TRIALS, rng)
    predicted = float((value.variance + value.bias).sum())
    assert measured == pytest.approx(predicted, rel=WITHIN), f"{measured / predicted:.3f}"


def base() -> Instance:
    return replace(
        uniform_instance(N, L), sizes=np.full(L, float(D)), directions=P, lr=1.0,
        gradient=np.array([0.3, 2.0, 1.0, 0.5, 3.0, 1.0]), batch_variance=np.full(L, 0.25),
        client_variance=np.full(L, 1.0),
    )
