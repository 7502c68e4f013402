"""From batches and paths of versions to losses, with every shared prefix computed once."""

from zorba_ray.engine.evaluate import Outcome, Work, evaluate
from zorba_ray.engine.trie import count_edges
from zorba_ray.engine.version import CLEAN, Path, Version

__all__ = ["CLEAN", "Outcome", "Path", "Version", "Work", "count_edges", "evaluate"]
