"""The bound against a Monte Carlo of the estimator itself: losses of quadratics at θ ± μz, scalars, steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from allocation.allocation_instances import uniform_instance
from numpy.typing import NDArray

from zorba_ray.allocation import Bound, Instance, rotated
from zorba_ray.methods.fedspzo import FIRST, Split
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


def error(instance: Instance, matrix: NDArray[np.bool_], trials: int, rng: np.random.Generator) -> float:
    """Measured E‖ĝ − ∇f‖²."""
    return float(moments(instance, matrix, trials, rng)[0].sum())


def moments(
    instance: Instance, matrix: NDArray[np.bool_], trials: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Measured E‖ĝ − ∇f‖², E⟨ĝ, ∇f⟩ and E‖ĝ‖² of each block [3, L], over populations, mini-batches, participants and
    directions."""
    n, blocks, d, p = instance.clients, instance.blocks, int(instance.sizes[0]), instance.directions
    omega = instance.weights / instance.weights.sum()
    total = np.zeros((3, blocks))
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
        parts = [np.ones(blocks, dtype=bool)]  # blocks perturbed together
        if split := instance.split:
            first = split.parts(parts[0]) == FIRST
            pair = np.arange(p) // split.forks * split.forks
            z = np.where(first[:, None], z[:, pair], z)
            parts = [first, ~first] if split.form == "sequential" else parts
        rho = np.zeros((n, p, blocks))
        for blocks_of in parts:
            masked = np.where((matrix & blocks_of)[:, None, :, None], z, 0.0)  # [N, P, L, D]
            plus = 0.5 * ((away[:, None] + mu * masked) ** 2).sum(axis=(2, 3))
            minus = 0.5 * ((away[:, None] - mu * masked) ** 2).sum(axis=(2, 3))
            rho[:, :, blocks_of] = ((plus - minus) / (2 * mu))[..., None]
        part = np.zeros(n, dtype=bool)
        part[rng.choice(n, instance.taking_part, replace=False)] = True
        w = instance.weights[:, None] * (matrix & part[:, None])  # [N, L]
        share = w / np.where(w.sum(axis=0) > 0, w.sum(axis=0), 1.0)
        step = np.einsum("nl,npl,npld->ld", share, rho, np.broadcast_to(z, (n, p, blocks, d))) / p
        total += [((step - target) ** 2).sum(axis=1), (step * target).sum(axis=1), (step**2).sum(axis=1)]
    return total / trials


def activations(rng: np.random.Generator) -> dict[str, NDArray[np.bool_]]:
    disjoint = np.arange(N)[:, None] % L == np.arange(L)
    overlapping = (np.arange(L) - np.arange(N)[:, None]) % L < 3
    unequal = rng.random((N, L)) < np.linspace(0.2, 0.9, N)[:, None]
    unequal[0] = unequal[:, 0] = True
    return {"full": np.ones((N, L), dtype=bool), "disjoint": disjoint, "overlapping": overlapping, "unequal": unequal}


def split_into(split: Split, **changes: Any) -> dict[str, Any]:
    return {"split": split, "gain": split.gain(L), "directions": split.directions, **changes}


VARIANTS: dict[str, dict[str, Any]] = {
    "shared": {},
    "private": {"shared": False},
    "rademacher": {"kind": "rademacher"},
    "rademacher private": {"kind": "rademacher", "shared": False},
    "weights": {"weights": np.linspace(1.0, 4.0, N)},
    "weights private": {"weights": np.linspace(1.0, 4.0, N), "shared": False},
    "participants": {"participants": 3},
    "participants private": {"participants": 3, "shared": False},
    "participants weights": {"participants": 5, "weights": np.linspace(1.0, 2.0, N)},
    "split": split_into(Split(4, 2, 2, False, "joint")),
    "split in sequence": split_into(Split(6, 3, 4, False, "sequential")),
    "split private weights": split_into(Split(4, 4, 0, False, "joint"), shared=False, weights=np.linspace(1.0, 4.0, N)),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["full", "disjoint", "overlapping", "unequal"])
def test_step_and_error_match_monte_carlo(name: str, variant: str) -> None:
    """What a plan gains and costs is what a step does: in sum within 5 %, block by block what so many trials tell."""
    rng = generator(1, Domain.FAULTS)
    matrix = activations(generator(2, Domain.FAULTS))[name]
    instance = replace(base(), horizon=0.0, smoothness=np.linspace(0.1, 3.0, L), **VARIANTS[variant])
    value = Bound(instance).of(matrix)
    away, along, square = moments(instance, matrix, TRIALS, rng)
    predicted = float((value.variance + value.bias).sum())
    assert away.sum() == pytest.approx(predicted, rel=WITHIN), f"{away.sum() / predicted:.3f}"
    cost = instance.smoothness * square
    assert cost.sum() == pytest.approx(float(value.cost.sum()), rel=WITHIN), f"{cost.sum() / value.cost.sum():.3f}"
    assert cost == pytest.approx(value.cost, rel=3 * WITHIN)
    noise = np.sqrt((square * instance.gradient).sum() / TRIALS)  # of the mean of ⟨ĝ, ∇f⟩, at most
    assert along.sum() == pytest.approx(float(value.gain.sum()), abs=4 * noise)


def test_what_lasts_costs_what_the_horizon_says() -> None:
    """Gradient descent towards an optimum that is off by a deviation: what depends on the deviation is ½ x of it, at
    the share x of the way, and the gain is G in the first rounds."""
    rng = generator(7, Domain.FAULTS)
    curvature, rate, d = 2.0, 0.05, 40
    g = rng.standard_normal((4000, d))
    off = 0.7 * rng.standard_normal((4000, d))
    for rounds in (1, 5, 30, 200):
        away = g / curvature  # θ − θ*, and the clients' own optimum is at −off/curvature
        for _ in range(rounds):
            away = away - rate * (curvature * away + off)
        x = 1 - (1 - rate * curvature) ** rounds
        fall = curvature / 2 * float(((g / curvature) ** 2 - away**2).sum(axis=1).mean())
        gradient, lasting = (float((v**2).sum(axis=1).mean()) for v in (g, off))
        assert fall == pytest.approx(x / curvature * (gradient - x / 2 * (gradient + lasting)), rel=0.02, abs=0.05)


def base() -> Instance:
    return replace(
        uniform_instance(N, L), sizes=np.full(L, float(D)), directions=P, lr=1.0,
        gradient=np.array([0.3, 2.0, 1.0, 0.5, 3.0, 1.0]), batch_variance=np.full(L, 0.25),
        client_variance=np.full(L, 1.0),
    )


def lasting(instance: Instance, matrix: NDArray[np.bool_], rounds: list[NDArray[np.bool_]], trials: int) -> float:
    """Measured E‖mean over rounds of ĝ − ∇f‖²: directions and mini-batches average out and are left out, participants
    are averaged over, populations drawn."""
    rng = generator(3, Domain.FAULTS)
    omega = instance.weights / instance.weights.sum()
    draws = 60_000 // len(rounds) * len(rounds) if instance.participants else len(rounds)
    ranks = rng.random((draws, instance.clients)).argsort(axis=1).argsort(axis=1)
    active = np.tile(np.stack(rounds), (draws // len(rounds), 1, 1)) & (ranks < instance.taking_part)[:, :, None]
    w = instance.weights[:, None] * active
    share = (w / np.maximum(w.sum(axis=1, keepdims=True), 1e-300)).mean(axis=0)
    total = 0.0
    for _ in range(trials):
        centre = draw(instance, rng).gradients
        total += float(((np.einsum("nl,nld->ld", share, centre) - np.einsum("n,nld->ld", omega, centre)) ** 2).sum())
    return total / trials


@pytest.mark.parametrize("changes", [{}, {"participants": 3}, {"weights": np.linspace(1.0, 4.0, N)}], ids=str)
@pytest.mark.parametrize("name", ["disjoint", "overlapping", "unequal"])
def test_bias_is_what_does_not_average_out(name: str, changes: dict[str, object]) -> None:
    matrix = activations(generator(2, Domain.FAULTS))[name]
    instance = replace(base(), **changes)
    measured = lasting(instance, matrix, [matrix], 1500)
    assert measured == pytest.approx(float(Bound(instance).of(matrix).bias.sum()), rel=WITHIN)


@pytest.mark.parametrize("participants", [0, 4])
def test_a_rotated_plan_keeps_the_error_and_loses_bias(participants: int) -> None:
    matrix = activations(generator(2, Domain.FAULTS))["unequal"]
    classes = {"class_of": np.array([0, 0, 0, 1, 1, 1, 1, 1]), "class_names": ("a", "b"), "participants": participants}
    stays = replace(base(), **classes)
    rotates = replace(stays, rotate=True)
    rounds = [rotated(matrix, stays.class_of, r) for r in range(15)]  # all turns of 3 and of 5
    value, still = Bound(rotates).of(matrix), Bound(stays).of(matrix)
    assert lasting(rotates, matrix, rounds, 1500) == pytest.approx(float(value.bias.sum()), rel=WITHIN)
    assert value.variance.sum() + value.bias.sum() == pytest.approx(still.variance.sum() + still.bias.sum())
    assert value.bias.sum() < still.bias.sum()


def test_a_block_that_nobody_tunes_costs_its_gradient() -> None:
    instance = base()
    matrix = np.ones((N, L), dtype=bool)
    matrix[:, 2] = False
    value = Bound(instance).of(matrix)
    assert value.bias[2] == instance.gradient[2] and value.variance[2] == 0
    assert error(instance, matrix, TRIALS, generator(5, Domain.FAULTS)) == pytest.approx(
        float((value.variance + value.bias).sum()), rel=WITHIN
    )


@pytest.mark.parametrize("shared", [True, False])
def test_one_client_has_no_clients_to_differ_from(shared: bool) -> None:
    instance = replace(
        base(), budgets=np.full(1, 1e9), class_of=np.zeros(1, dtype=np.int64), weights=np.ones(1), shared=shared
    )
    matrix = np.ones((1, L), dtype=bool)
    value = Bound(instance).of(matrix)
    assert not value.bias.any()
    assert error(instance, matrix, TRIALS, generator(6, Domain.FAULTS)) == pytest.approx(
        float(value.variance.sum()), rel=WITHIN
    )


def test_the_design_s_formulas() -> None:
    """Full participation, equal weights, without the 1/d_l correction: word for word as the design writes them."""
    instance = replace(base(), sizes=np.full(L, 1e9))  # the correction vanishes
    matrix = activations(generator(2, Domain.FAULTS))["unequal"]
    a = matrix.astype(float)
    g, s, zeta, d = instance.gradient, instance.batch_variance, instance.client_variance, instance.sizes
    o, m = a.T @ a, a.sum(axis=0)
    c = o / m[:, None]
    shared = (c**2 * g + (o * s + o * (N - o) / (N - 1) * zeta) / m[:, None] ** 2).sum(axis=1)
    private = (a * (a @ (g + s + zeta))[:, None]).sum(axis=0) / m**2
    bias = zeta / m * (N - m) / (N - 1)
    for kind, v in ((True, shared), (False, private)):
        value = Bound(replace(instance, shared=kind)).of(matrix)
        assert value.variance == pytest.approx(d / P * v + s / m, rel=1e-6)
        assert value.bias == pytest.approx(bias, rel=1e-12)
        assert value.phi == pytest.approx(instance.lr * (d / P * v + s / m) + bias, rel=1e-6)
        assert value.gain == pytest.approx(g - bias / 2, rel=1e-9)
        assert value.cost == pytest.approx(d / P * v + s / m + bias + g, rel=1e-6)
