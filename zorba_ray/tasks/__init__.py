"""Data, prompts, labels and shards. What is named here needs no torch; `tasks.batches` makes tensors of it."""

from zorba_ray.tasks.draw import evaluation_draw
from zorba_ray.tasks.examples import Examples, Task, TaskKind
from zorba_ray.tasks.load import load_task
from zorba_ray.tasks.partition import partition
from zorba_ray.tasks.registry import KNOWN, KnownTask

__all__ = ["KNOWN", "Examples", "KnownTask", "Task", "TaskKind", "evaluation_draw", "load_task", "partition"]
