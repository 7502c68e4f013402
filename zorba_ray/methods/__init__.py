"""Training methods. A method says which probes a client does, what it reports, and how reports become a step."""

from zorba_ray.methods import fedavg, fedit, fedkseed, fedspzo, statistics, zorba
from zorba_ray.methods.method import FirstOrder, Method, Update, ZeroOrder

METHODS: dict[str, Method] = {
    "zorba": ZeroOrder(zorba.probes, zorba.scalars, zorba.step),
    "decomfl": ZeroOrder(zorba.probes, zorba.scalars, zorba.step),
    "fedspzo": ZeroOrder(fedspzo.probes, fedspzo.scalars, fedspzo.step),
    "fedkseed": ZeroOrder(fedkseed.probes, fedkseed.scalars, fedkseed.step, fedkseed.upload),
    "fedzo": ZeroOrder(zorba.probes, zorba.scalars, zorba.step, dense=True),
    "fedavg": FirstOrder(fedavg.train, fedavg.step),
    "fedit": FirstOrder(fedit.train, fedit.step),
    "statistics": ZeroOrder(statistics.probes, statistics.scalars, statistics.step),
}

__all__ = ["METHODS", "FirstOrder", "Method", "Update", "ZeroOrder"]
