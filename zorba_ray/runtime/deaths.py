"""What became of a call that brought no answer: the actor raised, or it is dead, or memory ran out."""

from __future__ import annotations

from ray.exceptions import OutOfMemoryError, RayError, RayTaskError


def is_death(error: RayError) -> bool:
    """Whether whoever should have answered never will. Ray has some thirty such errors (the memory monitor's is no
    `RayActorError`), and one that is none: an exception that the called code raised."""
    return not isinstance(error, RayTaskError)


def ran_out_of_memory(error: RayError) -> bool:
    """Whether the memory monitor killed the actor, or it could not get what it asked for: doing the same again would
    end alike. A kill by the system's own killer (SIGKILL) cannot be told from any other."""
    if isinstance(error, OutOfMemoryError):
        return True
    cause = error.cause if isinstance(error, RayTaskError) else None
    kinds = [kind.__name__ for kind in type(cause).__mro__] if cause is not None else []
    return "MemoryError" in kinds or "OutOfMemoryError" in kinds or "can't allocate memory" in str(cause)


def what_happened(error: RayError) -> str:
    if ran_out_of_memory(error):
        return "ran out of memory"
    return "died" if is_death(error) else "raised an exception"


def first_line(error: BaseException) -> str:
    """What happened, without Ray's tracebacks: the last line of an exception in an actor (its start included), else the
    first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if isinstance(error, RayTaskError) or "creation task" in lines[0] else lines[0]
