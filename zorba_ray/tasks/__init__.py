"""Data, prompts, labels and shards."""

from zorba_ray.model.batch import Batch
from zorba_ray.tasks.batches import epoch_batches, make_batch, sample_batch
from zorba_ray.tasks.draw import evaluation_draw
from zorba_ray.tasks.examples import Examples, Task, TaskKind
from zorba_ray.tasks.load import load_task
from zorba_ray.tasks.partition import partition
from zorba_ray.tasks.registry import KNOWN, KnownTask

__all__ = [
    "KNOWN",
    "Batch",
    "Examples",
    "KnownTask",
    "Task",
    "TaskKind",
    "epoch_batches",
    "evaluation_draw",
    "load_task",
    "make_batch",
    "partition",
    "sample_batch",
]
