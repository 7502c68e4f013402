"""Training methods. A method says which probes a client does, what it reports, and how reports become a step."""

from zorba_ray.methods import statistics, zorba
from zorba_ray.methods.method import Method

METHODS: dict[str, Method] = {
    "zorba": Method(zorba.probes, zorba.scalars, zorba.step),
    "statistics": Method(statistics.probes, statistics.scalars, statistics.step),
}

__all__ = ["METHODS", "Method"]
