"""FedZO: local steps along a client's own directions; what travels is the change of its weights.

In a simulation that change is still (direction, scalar) pairs, so the ledger stays small; on the wire it is weights.
"""

from zorba_ray.methods import zorba
from zorba_ray.methods.method import ZeroOrder

METHOD = ZeroOrder(zorba.probes, zorba.scalars, zorba.step, dense=True, late=True)
