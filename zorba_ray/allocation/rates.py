"""How much merit any plan can have: programs at several rates bound what lies between them.

`p_η(a) = D − ½ η Q` is linear in η for every plan, so the most that any plan has is convex in η and lies below the
chord between two rates at which a program has bounded it. With `P = η p`, M = max over η of P is below η · chord.
"""

from __future__ import annotations

from bisect import insort

from zorba_ray.allocation.bound import Bound

WIDEST = 3  # how many times the next lower rate one is at most


class Chords:
    """Bounds u(η) ≥ max over plans of p_η at rates from 0 to one at which nothing is gained any more."""

    def __init__(self, bound: Bound):
        self.points = [(0.0, bound.most), (last_rate(bound), 0.0)]

    def add(self, rate: float, most: float) -> None:
        insort(self.points, (rate, max(most, 0.0)))

    @property
    def limit(self) -> float:
        """What M cannot exceed."""
        return self.peak[0]

    @property
    def next(self) -> float:
        """The rate to ask a program about: where the chords allow most, but not too far from what is known."""
        rate = self.peak[1]
        low = max(at for at, _ in self.points if at < rate)
        return min(rate, WIDEST * low) if low else rate

    @property
    def peak(self) -> tuple[float, float]:
        return max(top(*pair) for pair in zip(self.points, self.points[1:], strict=False))


def top(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Most of η · chord between two points, and its η."""
    (low, at_low), (high, at_high) = one, other
    slope = (at_low - at_high) / (high - low) if high > low else 0.0
    at_zero = at_low + slope * low
    rate = min(max(at_zero / (2 * slope), low), high) if slope > 0 else high
    return rate * (at_zero - slope * rate), rate


def last_rate(bound: Bound) -> float:
    """A rate from which no block gains: ½ η Q_l ≥ D_l whatever the plan. Of Q_l, a lone client's part is counted."""
    instance, n = bound.instance, bound.instance.clients
    g, s = instance.gradient, instance.batch_variance
    told = g > 0
    if not told.any():
        return 0.0
    heaviest = float(bound.weights.max()) / n
    apart = bound.tau * max(1 + bound.q - 2 * heaviest, 0.0)
    moment = g + s / n if instance.shared else (g + s + apart) / n  # of a scalar's own block, over r
    noise = (instance.sizes + bound.kappa) / instance.directions * bound.gain.diagonal() * moment
    reach = bound.reach[1:]
    least = instance.smoothness * (float(reach[reach > 0].min(initial=1.0)) * g + noise)  # Q_l ≥ this · r
    return float((2 * g[told] / least[told]).max())
