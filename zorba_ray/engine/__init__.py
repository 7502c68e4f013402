"""From batches and paths of versions to losses, with every shared prefix computed once.

Versions, paths and their count need no torch and are named here; `engine.evaluate` computes.
"""

from zorba_ray.engine.trie import count_edges
from zorba_ray.engine.version import CLEAN, FROZEN, Path, Version

__all__ = ["CLEAN", "FROZEN", "Path", "Version", "count_edges"]
