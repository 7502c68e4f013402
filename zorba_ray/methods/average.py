"""One number from many clients' numbers: the only place where clients are averaged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages import MEAN, Rule

Floats = NDArray[np.float64]

EDGE = 1e-12  # shares of weight that differ by less are the same


def average(rule: Rule, values: Floats, weights: Floats) -> Floats:
    """Of clients in ascending order, `values` [n, J] and `weights` [n] above 0, to [J].

    mean: `Σ w_n v_n / Σ w_n`, added one client after the other, so the sum has the same bits wherever it is computed.
    median, of each number j by itself: where the weight of the values in ascending order reaches half of all; where it
    is half exactly, midway to the next value. trimmed: the mean of each number j without the share `trim` of the weight
    at either end; a value that lies across the cut counts with what is left of its weight. clipped: the mean of vectors
    no longer than `clip_norm`.
    """
    match rule.name:
        case "mean":
            return in_order(weights[:, None] * values) / in_order(weights[:, None])
        case "clipped":
            return average(MEAN, np.stack([clipped(vector, rule.clip_norm) for vector in values]), weights)
        case "median":
            return between(values, weights, 0.5)
        case "trimmed":
            return between(values, weights, rule.trim)
    raise AssertionError(f"unvalidated rule {rule}")


def between(values: Floats, weights: Floats, trim: float) -> Floats:
    """The mean of what lies between the quantiles `trim` and 1 − `trim` of each column; at ½ the median."""
    result = np.empty(values.shape[1])
    for j, column in enumerate(values.T):
        order = np.lexsort((weights, column))
        v, w = column[order], weights[order]
        ends = np.add.accumulate(w) / w.sum()
        if trim == 0.5:
            low, high = np.searchsorted(ends, [0.5 - EDGE, 0.5 + EDGE])
            result[j] = v[low] / 2 + v[min(int(high), len(v) - 1)] / 2
        else:
            begins = np.concatenate([[0.0], ends[:-1]])
            left = np.maximum(np.minimum(ends, 1 - trim) - np.maximum(begins, trim), 0.0)
            result[j] = float(in_order((left * v)[:, None])[0] / in_order(left[:, None])[0])
    return result


def clipped(vector: Floats, limit: float) -> Floats:
    """The vector, scaled down to length `limit` where it is longer."""
    length = float(np.linalg.norm(vector))
    return vector * (limit / length) if length > limit else vector


def in_order(values: Floats) -> Floats:
    """Sum over the first axis, from 0 upwards."""
    zero = np.zeros((1, *values.shape[1:]))
    return np.asarray(np.add.accumulate(np.concatenate([zero, values]), axis=0)[-1], dtype=np.float64)


def block_coefficients(rule: Rule, parts: NDArray[np.int8], weights: Floats, values: Floats) -> NDArray[np.float32]:
    """c [L, J]: each block's average over the clients that have it active, 0 where nobody has.

    `parts` [C, L] says what block l is to client n: 0 not active, else the part of the model whose values
    `values[part − 1, n]` [J] move it. Blocks with equal columns have equal coefficients, which are computed once.
    """
    c = np.zeros((parts.shape[1], values.shape[2]), dtype=np.float32)
    known: dict[bytes, NDArray[np.float32]] = {}
    for block, column in enumerate(parts.T):
        members = np.flatnonzero(column)
        if not members.size:
            continue
        key = column.tobytes()
        if key not in known:
            chosen = values[column[members] - 1, members]
            known[key] = average(rule, chosen, weights[members]).astype(np.float32)
        c[block] = known[key]
    return c
