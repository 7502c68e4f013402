"""Deterministic local search on the exact objectives, over groups of clients that share a row.

A group is one client, or for large N a share of a class; what the search finds is dealt out as it stands, so a group
solution and the clients' matrix have one and the same bound. All moves keep budgets, coverage and the limits that
earlier levels set.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zorba_ray.allocation.state import State
from zorba_ray.engine.memory import Floats

TINY = 1e-10  # relative gain below which a move is no gain


class Search:
    """Improves one objective of a state within the limits of others."""

    def __init__(self, state: State, objective: str, limits: Mapping[str, float]):
        self.state, self.objective, self.limits = state, objective, dict(limits)
        self.instance = state.bound.instance
        self.group_flips = state.flip_mask

    def changes(self, g: int, loose: bool = False) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Of each flip of group g: the objective's new value, the new Φ, and whether it is admissible [L]."""
        s, groups, instance = self.state, self.state.groups, self.instance
        size = groups.size[g]
        rows = s.rows[g] ^ self.group_flips
        allowed = np.ones(instance.blocks, dtype=bool)
        phi = s.per_block.sum() + s.flips(g)
        values = phi
        vram = instance.vram.of(rows)
        allowed &= vram <= groups.budget[g]
        if self.objective == "vram" or "vram" in self.limits:
            if s.worst:
                others = np.delete(s.vram / groups.budget, g).max(initial=0.0)
                total = np.maximum(others, vram / groups.budget[g])
            else:
                total = groups.size @ s.vram + size * (vram - s.vram[g])
            values = total if self.objective == "vram" else values
            allowed &= total <= self.limits.get("vram", np.inf)
        if self.objective == "compute" or "compute" in self.limits:
            total = groups.size @ s.compute + size * (instance.compute(rows) - s.compute[g])
            values = total if self.objective == "compute" else values
            allowed &= total <= self.limits.get("compute", np.inf)
        if not loose:
            allowed &= phi <= self.limits.get("convergence", np.inf)
            allowed &= ~s.rows[g] | (s.coverage - size >= self.instance.coverage - 1e-9)
        return values, phi, allowed

    def flip(self, g: int) -> bool:
        """The best admissible flip of group g, if it gains."""
        now = self.state.objective(self.objective)
        values, phi, allowed = self.changes(g)
        if self.objective != "convergence":  # what gains most for the Φ that it costs
            gain = now - values
            cost = np.maximum(phi - self.state.per_block.sum(), 1e-9 * abs(self.state.per_block.sum()))
            score = np.where(allowed & (gain > TINY * abs(now)), gain / cost, -np.inf)
        else:
            score = np.where(allowed & (now - values > TINY * abs(now)), now - values, -np.inf)
        best = int(np.argmax(score))
        if not np.isfinite(score[best]):
            return False
        self.state.apply(g, best)
        return True

    def swap(self, g: int, width: int) -> bool:
        """Exchange one block of group g for another: the `width` pairs that promise most are tried exactly."""
        s = self.state
        row, size = s.rows[g].copy(), s.groups.size[g]
        out = np.flatnonzero(row & (s.coverage - size >= self.instance.coverage - 1e-9))
        into = np.flatnonzero(~row)
        if len(out) == 0 or len(into) == 0:
            return False
        pairs = np.stack(np.meshgrid(out, into, indexing="ij"), axis=-1).reshape(-1, 2)
        rows = np.repeat(row[None], len(pairs), axis=0)
        rows[np.arange(len(pairs)), pairs[:, 0]] = False
        rows[np.arange(len(pairs)), pairs[:, 1]] = True
        now, phi = s.objective(self.objective), s.flips(g)
        rise = phi[pairs[:, 0]] + phi[pairs[:, 1]]  # but for what the two blocks have to do with each other
        if self.objective == "convergence":
            promise = rise
        else:
            cost = self.instance.vram.of(rows) if self.objective == "vram" else self.instance.compute(rows)
            before = s.vram[g] if self.objective == "vram" else s.compute[g]
            slack = self.limits.get("convergence", np.inf) - s.per_block.sum()
            promise = np.where(rise <= slack, cost - before, np.inf)
        fits = self.instance.vram.of(rows) <= s.groups.budget[g]
        promise = np.where(fits & (promise < 0), promise, np.inf)
        for pair in np.argsort(promise, kind="stable")[:width]:
            if not np.isfinite(promise[pair]):
                break
            self.toggle(g, pairs[pair])
            if s.objective(self.objective) < now - TINY * abs(now) and self.admissible(g):
                return True
            self.toggle(g, pairs[pair])
        return False

    def toggle(self, g: int, blocks: NDArray[np.int64]) -> None:
        for block in blocks:
            self.state.apply(g, int(block))

    def trade(self, g: int, h: int) -> bool:
        """Give a block of g to h, perhaps for one of h's that g lacks; moves coverage alone cannot make."""
        s = self.state
        now = s.objective(self.objective)
        best, choice = now - TINY * abs(now), (-1, -1)
        for out in np.flatnonzero(s.rows[g] & ~s.rows[h]):
            s.apply(g, int(out))
            s.apply(h, int(out))
            for back in [-1, *np.flatnonzero(s.rows[h] & ~s.rows[g])]:
                if back == out:
                    continue
                if back >= 0:
                    s.apply(h, int(back))
                    s.apply(g, int(back))
                if self.admissible(g, h) and (value := s.objective(self.objective)) < best:
                    best, choice = value, (int(out), int(back))
                if back >= 0:
                    s.apply(g, int(back))
                    s.apply(h, int(back))
            s.apply(h, int(out))
            s.apply(g, int(out))
        if choice[0] < 0:
            return False
        for block in choice:
            if block >= 0:
                s.apply(g, block)
                s.apply(h, block)
        return True

    def admissible(self, *touched: int) -> bool:
        s = self.state
        return (
            all(s.vram[g] <= s.groups.budget[g] for g in touched)
            and bool((s.coverage >= self.instance.coverage - 1e-9).all())
            and all(s.objective(name) <= limit for name, limit in self.limits.items())
        )

    def run(self, sweeps: int, width: int, trades: bool) -> int:
        """Sweeps over all groups until nothing gains; the number of moves made."""
        moves, groups = 0, len(self.state.groups.size)
        stuck = [-1] * groups  # version of the state in which a group had no move that gains
        for _ in range(sweeps):
            before = moves
            for g in range(groups):
                if stuck[g] == self.state.version:
                    continue
                while self.flip(g):
                    moves += 1
                if width and self.swap(g, width):
                    moves += 1
                else:
                    stuck[g] = self.state.version
            if trades:
                moves += sum(self.trade(g, h) for g in range(groups) for h in range(groups) if g != h)
            if moves == before:
                break
        self.state.refresh()
        return moves


def repair(state: State) -> bool:
    """Make rows keep budgets and coverage, by dropping what does not fit and swapping in what lacks; False if stuck."""
    instance, groups = state.bound.instance, state.groups
    rows = state.rows
    for g in np.flatnonzero(state.vram > groups.budget):
        while instance.vram.of(rows[g]) > groups.budget[g] and rows[g].any():
            mine = np.flatnonzero(rows[g])
            surplus = groups.size @ rows[:, mine] - instance.coverage[mine]
            rows[g, mine[int(np.argmax(surplus))]] = False
    for _ in range(4 * instance.blocks * max(int(instance.coverage.max()), 1)):
        covered = groups.size @ rows
        lacking = np.flatnonzero(covered < instance.coverage)
        if len(lacking) == 0:
            break
        alone = instance.vram.alone()
        block = int(lacking[np.argmax(alone[lacking])])
        best, choice = (np.inf, np.inf), None
        for g in np.flatnonzero(~rows[:, block] & (groups.budget >= alone[block])):
            row = rows[g].copy()
            row[block] = True
            damage = 0.0
            while instance.vram.of(row) > groups.budget[g]:
                mine = np.flatnonzero(row & (np.arange(len(row)) != block))
                if len(mine) == 0:
                    damage = np.inf
                    break
                surplus = covered[mine] - groups.size[g] - instance.coverage[mine]
                cheap = 1e-3 * instance.vram.active[mine] / instance.vram.active.max()
                out = int(mine[int(np.argmax(surplus - cheap))])
                damage += max(0.0, float(-surplus.max())) + 1e-3
                row[out] = False
            key = (damage, float(groups.budget[g]))
            if key < best:
                best, choice = key, (g, row)
        if choice is None:
            return False
        rows[choice[0]] = choice[1]
    state.refresh()
    return bool((state.vram <= groups.budget).all() and (state.coverage >= instance.coverage - 1e-9).all())
