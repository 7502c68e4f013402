"""From counts per unit and block to rows of groups: overlaps spread out, budgets kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.activation import Activation
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.state import Groups
from zorba_ray.engine.memory import Matrix


def deal(activation: Activation, counts: NDArray[np.float64], bound: Bound, groups: Groups) -> Matrix:
    """Rows [G, L]. Of each unit, the block that is owed most goes to the emptiest group that it meets least in."""
    instance = bound.instance
    first = np.unique(groups.of, return_index=True)[1]
    unit = activation.unit_of[first]
    rows = np.zeros((len(groups.size), instance.blocks), dtype=bool)
    meet = np.zeros((instance.blocks, instance.blocks))
    for u in range(len(activation.sizes)):
        members = np.flatnonzero(unit == u)
        if len(members) == 1:
            rows[members[0]] = counts[u] * 2 >= activation.sizes[u]
            on = rows[members[0]].astype(np.float64)
            meet += groups.size[members[0]] * np.outer(on, on)
            continue
        owed = counts[u].copy()
        typical = float(groups.size[members].mean())
        open_ = np.ones(instance.blocks, dtype=bool)
        while (left := np.where(open_, owed, 0.0)).max() >= typical / 2:
            block = int(np.argmax(left))
            with_l = rows[members].copy()
            with_l[:, block] = True
            can = ~rows[members, block] & (instance.vram.of(with_l) <= groups.budget[members])
            if not can.any():
                open_[block] = False
                continue
            crowd = rows[members].sum(axis=1) + 1e-3 * (rows[members] @ meet[block]) / max(meet[block].max(), 1.0)
            g = members[int(np.argmin(np.where(can, crowd, np.inf)))]
            meet[block, rows[g]] += groups.size[g]
            meet[rows[g], block] += groups.size[g]
            rows[g, block] = True
            owed[block] -= groups.size[g]
    return rows
