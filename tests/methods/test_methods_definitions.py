"""Each zeroth-order method against its definition, written out in a few lines of NumPy: the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from methods.zeroth_toy import BLOCKS, Theta, applied, loss, moved, plan_of, report, run_round, start, z

from zorba_ray.messages import SharedStep
from zorba_ray.methods import METHODS
from zorba_ray.methods.fedkseed import draws

ACTIVE = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 1, 1]], dtype=bool)
FULL = np.ones((3, 4), dtype=bool)
WEIGHTS = np.array([3.0, 1.0, 5.0])
R = 3  # the round of `plan_of`


def along(theta: Theta, row: np.ndarray, s: float, vectors: list[np.ndarray]) -> Theta:
    """θ + s z on the active blocks."""
    return moved(theta, [[(s, vectors[i])] if row[i] else [] for i in range(4)])


def central(theta: Theta, n: int, k: int, row: np.ndarray, vectors: list[np.ndarray], mu: float) -> np.float32:
    plus, minus = (loss(along(theta, row, s, vectors), n, k) for s in (mu, -mu))
    return np.float32((plus - minus) / (2 * mu))


def forward(theta: Theta, n: int, k: int, row: np.ndarray, vectors: list[np.ndarray], mu: float) -> np.float32:
    return np.float32((loss(along(theta, row, mu, vectors), n, k) - loss(theta, n, k)) / mu)


def weighted(values: list[np.ndarray | np.float32], weights: list[float]) -> np.ndarray:
    total, mass = 0.0, 0.0
    for value, w in zip(values, weights, strict=True):
        total, mass = total + w * np.float64(value), mass + w
    return np.float32(total / mass)


def same(found: Theta, expected: Theta) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("estimate", [central, forward])
@pytest.mark.parametrize("active", [ACTIVE, FULL])
@pytest.mark.parametrize(("method", "local_steps"), [("zorba", 1), ("decomfl", 1), ("decomfl", 3)])
def test_shared_directions(method: str, local_steps: int, active: np.ndarray, estimate: object) -> None:
    """ZorBA is one local step; DeComFL with any activation: local moves, then c_kp averaged over the clients."""
    plan = plan_of(method, local_steps=local_steps, estimator=estimate.__name__)  # type: ignore[attr-defined]
    theta, P = start(), 4
    directions = {(k, p): [z(b, p, R, k) for b in BLOCKS] for k in range(local_steps) for p in range(P)}
    rho: dict[tuple[int, int, int], np.float32] = {}
    for n in range(3):
        here = theta
        for k in range(local_steps):
            for p in range(P):
                rho[n, k, p] = estimate(here, n, k, active[n], directions[k, p], plan.mu)  # type: ignore[operator]
            own = [[(-(plan.lr / P) * float(rho[n, k, p]), directions[k, p][i]) for p in range(P)] for i in range(4)]
            here = moved(here, [own[i] if active[n, i] else [] for i in range(4)])
    terms = []
    for i in range(4):
        members = [n for n in range(3) if active[n, i]]
        w = [float(WEIGHTS[n]) for n in members]
        terms.append([
            (-(plan.lr / P) * float(weighted([rho[n, k, p] for n in members], w)), directions[k, p][i])
            for k in range(local_steps) for p in range(P)
        ])  # fmt: skip
    step, _ = run_round(plan, theta, active, WEIGHTS)
    assert same(applied(theta, step), moved(theta, terms))


def test_decomfl_with_one_local_step_and_all_blocks_is_zorba() -> None:
    steps = [run_round(plan_of(name), start(), FULL, WEIGHTS)[0] for name in ("zorba", "decomfl")]
    assert all(isinstance(step, SharedStep) for step in steps)
    assert steps[0].coefficients.tobytes() == steps[1].coefficients.tobytes()


@pytest.mark.parametrize("local_steps", [1, 3])
@pytest.mark.parametrize("method", ["zorba", "fedzo"])
def test_private_directions(method: str, local_steps: int) -> None:
    """FedZO: H local steps along the client's own directions; block l moves by the mean change of its clients."""
    plan = plan_of(method, shared=False, local_steps=local_steps, directions=2)
    theta = start()
    own: dict[int, list[list[tuple[float, np.ndarray]]]] = {}
    for n in range(3):
        here, own[n] = theta, [[] for _ in BLOCKS]
        for k in range(local_steps):
            vectors = [[z(b, p, R, k, n + 1) for b in BLOCKS] for p in range(2)]
            rho = [central(here, n, k, ACTIVE[n], vectors[p], plan.mu) for p in range(2)]
            move = [[(-(plan.lr / 2) * float(rho[p]), vectors[p][i]) for p in range(2)] for i in range(4)]
            here = moved(here, [move[i] if ACTIVE[n, i] else [] for i in range(4)])
            own[n] = [[*own[n][i], *[(float(rho[p]), vectors[p][i]) for p in range(2)]] for i in range(4)]
    terms = []
    for i in range(4):
        members = [n for n in range(3) if ACTIVE[n, i]]
        total = sum(float(WEIGHTS[n]) for n in members)
        terms.append([(-(plan.lr / 2) * (WEIGHTS[n] / total) * rho, v) for n in members for rho, v in own[n][i]])
    step, _ = run_round(plan, theta, ACTIVE, WEIGHTS)
    assert same(applied(theta, step), moved(theta, terms))


def halves(row: np.ndarray, per_client: bool) -> tuple[list[int], list[int]]:
    """Active blocks of the first and of the second part."""
    on = [i for i in range(4) if row[i]]
    if per_client:
        return on[: len(on) // 2], on[len(on) // 2 :]
    return [i for i in on if i < 2], [i for i in on if i >= 2]


@pytest.mark.parametrize("per_client", [False, True])
@pytest.mark.parametrize("form", ["joint", "sequential"])
@pytest.mark.parametrize("active", [ACTIVE, FULL])
def test_fedspzo(form: str, per_client: bool, active: np.ndarray) -> None:
    """θ₂ along (1/P₁m) ΣΣ ρ_ij z_ij, θ₁ along (1/P₁) Σ_i (mean_j ρ_ij) z_i; averages over a block's clients."""
    pairs, m = 2, 3
    plan = plan_of("fedspzo", {"forks": m, "form": form, "per_client": per_client}, directions=pairs * m)
    theta = start()
    directions = [[z(b, p, R) for b in BLOCKS] for p in range(pairs * m)]

    def at(first: list[int], second: list[int], i: int | None, p: int | None, s: float, n: int) -> float:
        terms: list[list[tuple[float, np.ndarray]]] = [[] for _ in BLOCKS]
        for block in first if i is not None else []:
            terms[block] = [(s, directions[i * m][block])]
        for block in second if p is not None else []:
            terms[block] = [(s, directions[p][block])]
        return loss(moved(theta, terms), n, 0)

    def slope(first: list[int], second: list[int], i: int | None, p: int | None, n: int) -> np.float32:
        plus, minus = (at(first, second, i, p, s, n) for s in (plan.mu, -plan.mu))
        return np.float32((plus - minus) / (2 * plan.mu))

    slopes: dict[int, tuple[list[float], list[np.float32]]] = {}  # of first-part pairs (Σ_j ρ_ij), of second parts
    parts = [halves(active[n], per_client) for n in range(3)]
    for n, (first, second) in enumerate(parts):
        if form == "joint":
            rho = [[slope(first, second, i, i * m + j, n) for j in range(m)] for i in range(pairs)]
            slopes[n] = [float(np.sum(np.float64(row))) for row in rho], [x for row in rho for x in row]
        else:
            ones = [slope(first, second, i, None, n) for i in range(pairs)]
            slopes[n] = [m * float(x) for x in ones], [slope(first, second, None, p, n) for p in range(pairs * m)]
    terms = []
    for block in range(4):
        row = []
        members = [n for n in range(3) if active[n, block]]
        for p in range(pairs * m):
            values = []
            for n in members:
                if block in parts[n][1]:
                    values.append(np.float64(slopes[n][1][p]))
                else:
                    values.append(np.float64(slopes[n][0][p // m]) if p % m == 0 else np.float64(0))
            c = weighted(values, [float(WEIGHTS[n]) for n in members])
            if c:
                row.append((-(plan.lr / (pairs * m)) * float(c), directions[p][block]))
        terms.append(row)
    step, reports = run_round(plan, theta, active, WEIGHTS)
    assert reports[0].scalars.size == (pairs * m if form == "joint" else pairs + pairs * m)
    assert same(applied(theta, step), moved(theta, terms))


def test_fedkseed() -> None:
    """τ local MeZO steps with directions of the pool; the server adds the clients' weighted sums per direction."""
    plan = plan_of("fedkseed", {"size": 4}, local_steps=6, directions=1)
    theta = start()
    sums = np.zeros((3, 4))
    for n in range(3):
        here = theta
        for k, s in enumerate(draws(plan, n, 6)):
            vectors = [z(b, int(s), 0) for b in BLOCKS]
            rho = central(here, n, k, ACTIVE[n], vectors, plan.mu)
            here = moved(here, [[(-plan.lr * float(rho), vectors[i])] if ACTIVE[n, i] else [] for i in range(4)])
            sums[n, s] += np.float64(rho)
    sums = np.float32(sums)
    assert len(set(draws(plan, 0, 6))) < 6, "some direction should be drawn twice"
    terms = []
    for i in range(4):
        members = [n for n in range(3) if ACTIVE[n, i]]
        c = [weighted([sums[n, s] for n in members], [float(WEIGHTS[n]) for n in members]) for s in range(4)]
        terms.append([(-plan.lr * float(c[s]), z(BLOCKS[i], s, 0)) for s in range(4) if c[s]])
    step, _ = run_round(plan, theta, ACTIVE, WEIGHTS)
    assert same(applied(theta, step), moved(theta, terms))


def test_fedkseed_clips_scalars_and_keeps_them_otherwise() -> None:
    losses = np.array([5.0, 1.0, 1.0, 5.0, 1.01, 1.0])
    method = METHODS["fedkseed"]
    free = method.scalars(plan_of("fedkseed"), losses)  # type: ignore[union-attr]
    np.testing.assert_allclose(free, [200, -200, 0.5], rtol=1e-5)
    clipped = method.scalars(plan_of("fedkseed", {"clip": 100.0}), losses)  # type: ignore[union-attr]
    np.testing.assert_array_equal(clipped, np.clip(free, -100, 100))


@pytest.mark.parametrize("method", ["zorba", "fedspzo", "fedkseed"])
def test_a_step_estimates_the_gradient(method: str) -> None:
    """Over many rounds the mean move of a block is −η times its clients' weighted mean gradient (quadratic loss: exact
    in expectation)."""
    rng = np.random.default_rng(0)
    gradients = [[rng.standard_normal(b.size) for b in BLOCKS] for _ in range(3)]
    rounds, total, active = 300, [np.zeros(b.size) for b in BLOCKS], ACTIVE
    squares = [np.zeros(b.size) for b in BLOCKS]
    chosen = METHODS[method]
    for t in range(rounds):
        plan = plan_of(method, {"size": 2**16} if method == "fedkseed" else None, round=t, mu=1.0, lr=1.0)
        reports = []
        for n in range(3):
            losses = []
            for path in chosen.probes(plan, n, active[n]):  # type: ignore[union-attr]
                value = 0.0
                for b, version, g in zip(BLOCKS, path, gradients[n], strict=True):
                    for d, s in version:
                        value += s * float(g @ z(b, d.direction, d.round))
                losses.append(value)
            reports.append(report(n, chosen.scalars(plan, np.array(losses))))  # type: ignore[union-attr]
        step = chosen.step(plan, reports, active, WEIGHTS)
        for i, b in enumerate(BLOCKS):
            change = sum(c * z(b, d.direction, d.round) for d, c in step.terms(plan.seed, i))
            total[i] += change
            squares[i] += change**2
    for i in range(4):
        members = [n for n in range(3) if active[n, i]]
        mean = sum(WEIGHTS[n] * gradients[n][i] for n in members) / sum(WEIGHTS[n] for n in members)
        error = np.sqrt(squares[i] / rounds) / np.sqrt(rounds)
        assert (np.abs(total[i] / rounds + mean) < 4.5 * error).all()
