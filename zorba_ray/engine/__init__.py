"""From batches and paths of versions to losses, with every shared prefix computed once."""

from zorba_ray.engine.evaluate import Outcome, Work, block_evaluations, evaluate
from zorba_ray.engine.trie import count_edges
from zorba_ray.engine.version import CLEAN, Path, Version

__all__ = ["CLEAN", "Outcome", "Path", "Version", "Work", "block_evaluations", "count_edges", "evaluate"]
