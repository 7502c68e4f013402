"""Partial participation: how many of a block's m_l clients a uniformly drawn set of participants contains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zorba_ray.engine.memory import Floats


def participation(clients: int, taking_part: int) -> tuple[Floats, Floats, Floats]:
    """For m_l = 0..N, with M the number of its clients that take part (hypergeometric): three tables [N + 1].

    reach  r = P(M ≥ 1);  spread  m·E[1/M; M ≥ 1];  jitter  the factor (E[1/M; M ≥ 1] − r/m)·m/(m − 1) by which a share
    C measured on the participants varies around that on all clients. All take part: r = 1, spread = 1, jitter = 0.
    """
    count = np.arange(clients + 1, dtype=np.int64)
    if taking_part >= clients:
        ones = np.minimum(count, 1).astype(np.float64)
        return ones, ones.copy(), np.zeros(clients + 1)
    width = int(10 * np.sqrt(taking_part) + 12)  # beyond ten deviations nothing is left
    low = np.maximum(count * taking_part // clients - width, 1)
    met = low[:, None] + np.arange(2 * width + 2)
    outside, missing = (clients - count)[:, None], taking_part - met
    possible = (met <= np.minimum(count, taking_part)[:, None]) & (missing <= outside)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, clients + 1)))])  # logarithms

    def choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> Floats:
        k = np.clip(k, 0, n)
        return np.asarray(factorial[n] - factorial[k] - factorial[n - k])

    logs = choose(count[:, None], met) + choose(outside, missing)
    logs = logs - choose(np.array(clients), np.array(taking_part))
    probability = np.where(possible, np.exp(logs), 0.0)
    reach = np.minimum(probability.sum(axis=1), 1.0)
    inverse = (probability / met).sum(axis=1)
    m = np.maximum(count, 2)
    jitter = np.where(count > 1, np.maximum(inverse - reach / m, 0) * m / (m - 1), 0.0)
    return reach, count * inverse, jitter
