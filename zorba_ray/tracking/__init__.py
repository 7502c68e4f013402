"""A run's numbers as they come, in the tools that people watch runs with: `tracking=[csv, tensorboard, …]`."""

from zorba_ray.tracking.tracker import KINDS, Begun, Tracker, Trackers, numbers, refuse_absent

__all__ = ["KINDS", "Begun", "Tracker", "Trackers", "numbers", "refuse_absent"]
