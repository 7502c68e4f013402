"""Block statistics of the bound, estimated from scalars: G (common gradient), σ² (mini-batches), ζ² (clients), Λ
(curvature)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, RoundPlan
from zorba_ray.rounds.draw import draw_participants, plan_round

LOCAL_STEP = 4095  # no training step has this number, so the directions are used by nothing else
FLOOR = 1e-3  # least estimate, as a share of the block's E[ρ²] (Λ: of the greatest): one at or below 0 is noise

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """What the bound knows of the blocks, each [L]."""

    gradient: Floats  # G
    batch_variance: Floats  # σ²
    client_variance: Floats  # ζ²
    smoothness: Floats  # Λ


def probe_plans(config: Config, round: int) -> list[RoundPlan]:
    """Two plans with the same clients and directions and different mini-batches."""
    count, wanted = config.clients.count, config.allocation.probe_clients
    plan = replace(
        plan_round(config, round),
        method="statistics",
        participants=draw_participants(config.seed, 2**24 + round, count, min(wanted, count)),
        directions=config.allocation.probe_directions,
        shared=True,
        estimator="central",
        step=LOCAL_STEP,
        local_steps=1,
    )
    return [replace(plan, batch=1), replace(plan, batch=2)]


def gather(
    answers: Sequence[Sequence[tuple[NDArray[np.bool_], Report]]], plan: RoundPlan, blocks: int
) -> Floats:
    """ρ and h of both plans' reports, each about the blocks of its row: [ρ or h, batch, clients, L, P], NaN where
    nothing finite came of a client, block and mini-batch. What few bits let overflow is not estimated from."""
    place = {client: i for i, client in enumerate(plan.participants)}
    found = np.full((2, len(answers), len(place), blocks, plan.directions), np.nan)
    for batch, answer in enumerate(answers):
        for row, report in answer:
            if report.scalars.size:
                values = report.scalars.astype(np.float64).reshape(2, int(row.sum()), plan.directions)
                whole = np.isfinite(values).all(axis=(0, 2), keepdims=True)
                found[:, batch, place[report.client], row] = np.where(whole, values, np.nan)
    return found


def complete(scalars: Floats) -> NDArray[np.bool_]:
    """Of which client and block both mini-batches came, [clients, L]."""
    return np.asarray(np.isfinite(scalars).all(axis=(0, 1, 4)))


def refuse_too_few(scalars: Floats, names: Sequence[str], plan: RoundPlan, reports: Sequence[Report]) -> None:
    """Of every block, at least two clients are compared (one where only one was asked)."""
    enough = min(2, len(plan.participants))
    counts = complete(scalars).sum(axis=0)
    if (counts >= enough).all():
        return
    block = int(np.argmin(counts))
    raise ConfigError(
        f"allocation.statistics=estimated: of block {names[block]} {counts[block]} of {len(plan.participants)} clients "
        f"sent probes that count, and {enough} are needed{reasons(reports)}. Raise allocation.probe_clients or "
        f"clients.budgets, or give the statistics (allocation.statistics=given)"
    )


def missing(scalars: Floats, reports: Sequence[Report]) -> list[str]:
    """What the user should know of probes that did not come, or do not count."""
    there = complete(scalars)
    if there.all():
        return []
    return [
        f"statistics from {there.sum()} of {there.size} probes of a client and block; the others found no room in its "
        f"budget, did not come or were not finite{reasons(reports)}"
    ]


def reasons(reports: Sequence[Report]) -> str:
    counts = Counter(report.status for report in reports if report.status != "ok")
    infinite = sum(not np.isfinite(report.scalars).all() for report in reports)
    parts = [f"{count} {status}" for status, count in sorted(counts.items())]
    parts += [f"{infinite} not finite"] if infinite else []
    return f" ({', '.join(parts)})" if parts else ""


def estimate(scalars: Floats, clients: int, sizes: Floats) -> Statistics:
    """From the scalars of both plans, with `clients` N in all and blocks of `sizes` d [L]; each block's from the
    clients of whom both came."""
    there = complete(scalars)
    if there.all():
        return estimate_together(scalars, clients, sizes)
    parts = [
        estimate_together(scalars[:, :, there[:, block], block : block + 1], clients, sizes[block : block + 1])
        for block in range(len(sizes))
    ]
    joined = {name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    total = joined["smoothness"] * sizes
    joined["smoothness"] = np.maximum(total, FLOOR * total.max()) / sizes
    return Statistics(**joined)


def estimate_together(scalars: Floats, clients: int, sizes: Floats) -> Statistics:
    """Of blocks that the same clients probed:

    `E ρ_nb² = G + ζ² + σ²`, `E ρ_n1 ρ_n2 = G + ζ²`, `E ρ_n ρ_m = G − ζ²/(N − 1)` for clients n ≠ m, each averaged over
    clients and directions; deviations of all clients sum to zero, hence the last. `Λ = E h / d`. Estimates are kept
    above a floor, and Λ above its standard error: curvature not told from none is no licence for large steps.
    """
    rho, h = scalars  # [batch, clients, L, P]
    count = rho.shape[1]
    square = (rho**2).mean(axis=(0, 1, 3))
    same = (rho[0] * rho[1]).mean(axis=(0, 2))
    if count > 1:
        means = rho.mean(axis=0)  # [clients, L, P]
        total = means.sum(axis=0)
        cross = ((total**2 - (means**2).sum(axis=0)) / (count * (count - 1))).mean(axis=-1)
        client_variance = (same - cross) * (clients - 1) / clients
    else:
        client_variance = np.zeros_like(same)
    floor = FLOOR * square
    client_variance = np.maximum(client_variance, 0.0 if clients == 1 else floor)
    return Statistics(
        gradient=np.maximum(same - client_variance, floor),
        batch_variance=np.maximum(square - same, floor),
        client_variance=client_variance,
        smoothness=curvature(h) / sizes,
    )


def curvature(h: Floats) -> Floats:
    """tr H of each block [L], from h [batch, clients, L, P] whose directions all clients share."""
    each = h.reshape(-1, *h.shape[2:])  # [mini-batches, L, P]
    mean = each.mean(axis=(0, 2))
    error = np.sqrt(squared_error(each.mean(axis=0).T) + squared_error(each.mean(axis=2)))
    found = np.maximum(mean, error)
    return np.asarray(np.maximum(found, FLOOR * found.max()))


def squared_error(values: Floats) -> Floats:
    """Squared standard error of the mean over the first axis; of a single value, its square."""
    count = len(values)
    return np.asarray(values.var(axis=0, ddof=1) / count if count > 1 else values[0] ** 2)
