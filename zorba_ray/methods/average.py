"""One number from many clients' numbers: the only place where clients are averaged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def average(rule: str, values: Floats, weights: Floats) -> Floats:
    """Of clients in ascending order, `values` [n, J] and `weights` [n] above 0, to [J].

    mean: `Σ w_n v_n / Σ w_n`, added one client after the other, so the sum has the same bits wherever it is computed.
    """
    assert rule == "mean", f"unvalidated rule {rule}"
    return in_order(weights[:, None] * values) / in_order(weights[:, None])


def in_order(values: Floats) -> Floats:
    """Sum over the first axis, from 0 upwards."""
    zero = np.zeros((1, *values.shape[1:]))
    return np.asarray(np.add.accumulate(np.concatenate([zero, values]), axis=0)[-1], dtype=np.float64)


def block_coefficients(rule: str, parts: NDArray[np.int8], weights: Floats, values: Floats) -> NDArray[np.float32]:
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
