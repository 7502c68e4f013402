"""Pages of docs/ that are written from the code: `python -m zorba_ray.commands.reference api > docs/api.md`, and
likewise `keys` (every key of a run, from the schema)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from zorba_ray.commands import api
from zorba_ray.commands.help import brackets
from zorba_ray.config.keys import all_keys
from zorba_ray.methods import kind_of

HEAD = """\
# The Python API

Written by `python -m zorba_ray.commands.reference api > docs/api.md`, from the docstrings.

```python
from zorba_ray import run, open_run

result = run("opt125m_sst2", rounds=20, clients={"count": 10}, zo={"directions": 8})
result.summary.accuracy_last, result.table("evaluations").to_pandas(), result.plan.matrix, result.model()
result = run(resume=result.folder, rounds=40)      # on for longer
result = open_run("run-20260101-120000")           # one of runs/: ended, or going on in another process
```

A key of a run is a keyword, a section a mapping; `zorba-ray run --help` lists all keys. Mistakes raise
`zorba_ray.config.errors.ConfigError`, whose one line says what to change.
"""


FUNCTIONS = (
    "run", "open_run", "load_config", "allocate", "study", "replay", "verify", "audit", "diff", "evaluate",
)  # fmt: skip


def page() -> str:
    from zorba_ray.commands.result import Result
    from zorba_ray.runs.audit import Audit
    from zorba_ray.runs.difference import Difference
    from zorba_ray.runs.evaluate import Evaluation
    from zorba_ray.runs.replay import Replayed
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


KEYS = """\
# Every key of a run

Written by `python -m zorba_ray.commands.reference keys > docs/keys.md`, from the schema; `zorba-ray run --help` prints
the same.

On a line or in a file: `zo.directions=8`; in Python `run(zo={"directions": 8})`. `''` is empty text. A list's entries
are numbered: `clients.budgets.classes.0.budget=16GiB`. A value may refer to another key: `name='opt-${seed}'`.
"""


def keys_page() -> str:
    """Sections as headings, keys as rows."""
    parts = [KEYS]
    sections: dict[tuple[str, ...], list[str]] = {(): ["## The run itself\n"]}
    for key in all_keys(kind_of("")):
        if key.is_section:
            sections[key.path] = [f"## `{key.name}`\n\n{sentence(key.help)}\n"]
            continue
        section = max((path for path in sections if key.path[: len(path)] == path), key=len)
        rows = sections[section]
        if len(rows) == 1:
            rows.append("| key | what it is | takes | default |\n|---|---|---|---|")
        kind, _, default = brackets(key)[1:-1].partition("; default ")
        cells = (f"`{key.name}`", cell(key.help), cell(kind), f"`{cell(default)}`" if default else "")
        rows.append(f"| {' | '.join(cells)} |")
    parts += ["\n".join(rows) + "\n" for rows in sections.values() if len(rows) > 1]
    return "\n".join(parts)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def cell(text: str) -> str:
    """What a table takes: a bar would end the cell."""
    return text.replace(" | ", ", ").replace("|", "\\|")


PAGES = {"api": page, "keys": keys_page}


if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")
