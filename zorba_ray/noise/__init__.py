"""Portable noise: directions are names, and the same name gives the same bits on every machine (Philox and a table).

`combine` perturbs and steps a flat vector; `generator` gives every other random number of a run. The plain NumPy
reference (`sample`, `combine_reference`) says what the fast kernels (Numba on CPU, Triton on CUDA) must compute.
"""

from zorba_ray.noise.combine import combine, combine_in_turn
from zorba_ray.noise.identity import Direction, Domain, Kind, Term, Terms, chained
from zorba_ray.noise.reference import combine_reference, sample
from zorba_ray.noise.streams import generator

__all__ = [
    "Direction", "Domain", "Kind", "Term", "Terms", "chained", "combine", "combine_in_turn", "combine_reference",
    "generator", "sample",
]  # fmt: skip
