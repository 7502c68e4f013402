"""From starting plans to the best plan that the search finds for a level. Work is counted, never timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from zorba_ray.allocation.alternatives import Filler
from zorba_ray.allocation.bound import Bound
from zorba_ray.allocation.search import Search, repair
from zorba_ray.allocation.state import Groups, State
from zorba_ray.engine.memory import Matrix
from zorba_ray.noise import Domain, generator


@dataclass(frozen=True)
class Effort:
    """How much the search may do."""

    starts: int  # plans to begin from, besides the program's own
    sweeps: int
    width: int  # of exchanges tried in a row
    trades: bool  # between pairs of groups
    kicks: int


def effort(groups: int, blocks: int) -> Effort:
    """More for small instances, where it costs nothing; large ones have room for the program's rounding to be good."""
    size = groups * blocks
    if size <= 64:
        return Effort(starts=8, sweeps=20, width=blocks, trades=True, kicks=8)
    if size <= 1000:
        return Effort(starts=3, sweeps=6, width=3, trades=False, kicks=min(12, 2000 // size))
    return Effort(starts=1, sweeps=3, width=1, trades=False, kicks=0)


class Improver:
    """Searches over the rows of fixed groups."""

    def __init__(self, bound: Bound, groups: Groups, worst: bool, seed: int, light: bool = False):
        self.bound, self.groups, self.worst, self.seed = bound, groups, worst, seed
        self.instance = bound.instance
        self.effort = effort(len(groups.size), self.instance.blocks)
        if light:  # what begins from a plan that was searched for already
            self.effort = replace(self.effort, trades=False, kicks=0)

    def state(self, rows: Matrix) -> State:
        return State(self.bound, self.groups, rows, self.worst)

    def best(
        self, objective: str, limits: Mapping[str, float], incumbent: State | None, candidates: Mapping[str, Matrix]
    ) -> tuple[State, str] | None:
        """The best plan found within the limits, and where it comes from; None when no start can be made sound."""
        best, used = (None, "")
        if incumbent is not None:
            best, used = self.polished(incumbent, objective, limits, self.effort), "search"
        states = {name: self.state(rows) for name, rows in candidates.items()}
        sound = {name: state for name, state in states.items() if self.sound(state) or repair(state)}
        order = sorted(sound, key=lambda n: (not within(sound[n], limits), sound[n].objective(objective), n))
        for name in dict.fromkeys([*order[: self.effort.starts], *(each for each in order if each == "program")]):
            before = sound[name].objective(objective)
            ceiling = best.objective(objective) if best is not None else np.inf
            state = self.polished(sound[name], objective, limits, self.effort, ceiling)
            value = state.objective(objective)
            if within(state, limits) and (best is None or value < best.objective(objective) * (1 - 1e-12)):
                best, used = state, name if value >= before * (1 - 1e-12) else "search"
        return self.kicked(best, objective, limits, used) if best is not None else None

    def kicked(self, best: State, objective: str, limits: Mapping[str, float], used: str) -> tuple[State, str]:
        """Iterated local search: a few rows drawn anew, polished, kept when better. Drawn from the seed."""
        fill = Filler(self.instance)
        groups, blocks = len(self.groups.size), self.instance.blocks
        light = replace(self.effort, trades=False)
        for kick in range(self.effort.kicks):
            rng = generator(self.seed, Domain.ALLOCATION, 1, len(limits), kick)
            rows = best.rows.copy()
            for g in rng.choice(groups, min(groups, 2 + groups // 20), replace=False):
                limit = max(int(rows[g].sum()) + int(rng.integers(-1, 2)), 0)
                rows[g] = fill(float(self.groups.budget[g]), rng.permutation(blocks).tolist(), limit) & (limit > 0)
            state, now = self.state(rows), best.objective(objective)
            if not (self.sound(state) or repair(state)):
                continue
            state = self.polished(state, objective, limits, light, ceiling=now)
            if within(state, limits) and state.objective(objective) < now * (1 - 1e-9):
                best, used = state, "search"
        return best, used

    def polished(
        self, start: State, objective: str, limits: Mapping[str, float], e: Effort, ceiling: float = np.inf
    ) -> State:
        """The same plan improved; one that breaks a limit is first brought back within it."""
        state = self.state(start.rows)
        for name, limit in limits.items():
            if state.objective(name) > limit:
                others = {k: v for k, v in limits.items() if k != name and state.objective(k) <= v}
                if state.objective(objective) < ceiling < np.inf:
                    others[objective] = ceiling
                Search(state, name, others).run(e.sweeps, e.width, e.trades)
        if within(state, limits):
            Search(state, objective, limits).run(e.sweeps, e.width, e.trades)
        return state

    def sound(self, state: State) -> bool:
        """Budgets and coverage hold."""
        covered = state.coverage >= self.instance.coverage - 1e-9
        return bool((state.vram <= self.groups.budget).all() and covered.all())


def within(state: State, limits: Mapping[str, float]) -> bool:
    return all(state.objective(name) <= limit for name, limit in limits.items())
