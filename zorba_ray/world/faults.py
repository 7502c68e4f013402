"""Clients that misbehave: liars made for studies, and what the server recognises and leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config, FaultsConfig
from zorba_ray.messages import Report
from zorba_ray.world.streams import Stream, world

Scalars = NDArray[np.float32]

MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation


def liars(config: Config) -> NDArray[np.bool_]:
    """Who lies, [N]: a share of the clients, drawn by the seed for the whole run."""
    count = config.clients.count
    who = np.zeros(count, dtype=np.bool_)
    who[world(config.seed, Stream.LIARS).permutation(count)[: round(config.faults.byzantine * count)]] = True
    return who


def lie(section: FaultsConfig, seed: int, round: int, report: Report) -> Report:
    """What the server receives in place of a liar's report, of scalars or of vectors."""
    draw = world(seed, Stream.LIE, round, report.client)
    if report.vectors is None:
        return replace(report, scalars=untrue(section, report.scalars, draw))
    vectors = tuple(None if vector is None else untrue(section, vector, draw) for vector in report.vectors)
    return replace(report, vectors=vectors)


def untrue(section: FaultsConfig, truth: Scalars, draw: np.random.Generator) -> Scalars:
    """−ρ, s·ρ, noise of ρ's root mean square, or NaN."""
    match section.lie:
        case "sign_flip":
            return np.asarray(-truth)
        case "scale":
            return np.asarray(truth * np.float32(section.lie_scale))
        case "random":
            size = np.sqrt(np.mean(np.square(truth, dtype=np.float64)))
            return np.asarray(size * draw.standard_normal(truth.shape), dtype=np.float32)
    return np.full_like(truth, np.nan)


def outliers(limit: float, judges: Sequence[Scalars], judged: Sequence[Scalars], comparable: bool) -> list[bool]:
    """Which of the vectors lie too far out, by what the judges' vectors are like.

    The distance of a vector: from the judges' median in each coordinate where directions are shared, else its length
    (with noise of their own, clients' coordinates have nothing in common). Too far: more than `limit` deviations
    beyond the judges' median distance, a deviation being 1.4826 times their median absolute deviation. Fewer than
    three judges, or judges without any spread, say nothing.
    """
    if len(judges) < 3:
        return [False] * len(judged)
    stacked = np.stack(judges).astype(np.float64)
    centre = np.median(stacked, axis=0) if comparable else np.zeros(stacked.shape[1])
    distance = np.linalg.norm(stacked - centre, axis=1)
    middle = np.median(distance)
    deviation = MAD * np.median(np.abs(distance - middle))
    if deviation == 0:
        return [False] * len(judged)
    found = [float(np.linalg.norm(vector.astype(np.float64) - centre)) for vector in judged]
    return [each > middle + limit * deviation for each in found]
