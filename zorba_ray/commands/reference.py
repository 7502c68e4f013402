"""docs/api.md from the API's docstrings: `python -m zorba_ray.commands.reference > docs/api.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from zorba_ray.commands import api

HEAD = """\
# The Python API

Written by `python -m zorba_ray.commands.reference > docs/api.md`, from the docstrings.

```python
from zorba_ray import run, open_run

result = run("opt125m_sst2", rounds=20, clients={"count": 10}, zo={"directions": 8})
result.summary.accuracy_last, result.evaluations.to_pandas(), result.plan.matrix, result.model()
result = run(resume=result.folder, rounds=40)      # on for longer
result = open_run("run-20260101-120000")           # one of runs/, ended before
```

A key of a run is a keyword, a section a mapping; `zorba-ray run --help` lists all keys. Mistakes raise
`zorba_ray.config.errors.ConfigError`, whose one line says what to change.
"""


FUNCTIONS = (
    "run", "open_run", "load_config", "allocate", "study", "replay", "verify", "audit", "diff", "evaluate",
)  # fmt: skip


def page() -> str:
    from zorba_ray.runs.audit import Audit
    from zorba_ray.runs.difference import Difference
    from zorba_ray.runs.evaluate import Evaluation
    from zorba_ray.runs.replay import Replayed
    from zorba_ray.runs.result import Result
    from zorba_ray.runs.verify import Verified

    functions = [getattr(api, name) for name in FUNCTIONS]
    parts = [HEAD, "## Functions\n", *(entry("### ", each) for each in functions), "## What they return\n"]
    for kind in (Result, api.StudyResult, Replayed, Verified, Audit, Difference, Evaluation):
        parts.append(f"### {kind.__name__}\n\n{inspect.getdoc(kind)}\n")
        parts += [entry("#### ", member, name) for name, member in members(kind)]
    return "\n".join(parts)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """What is documented of a class, in the order of its lines."""
    for name, member in vars(kind).items():
        listed = isinstance(member, property | cached_property) or inspect.isfunction(member)
        if listed and not name.startswith("_"):
            yield name, member


def entry(level: str, member: Any, name: str = "") -> str:
    if inspect.isfunction(member):
        name = f"{member.__name__}{inspect.signature(member)}".replace("'", "")
    return f"{level}`{name}`\n\n{inspect.getdoc(getattr(member, 'func', member))}\n"


if __name__ == "__main__":
    print(page(), end="")
