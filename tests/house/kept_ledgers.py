"""The ledgers of many short runs, kept by their SHA-256: what must not change unless somebody means it to.

    python tests/house/kept_ledgers.py --renew [NAME …]

runs all cases of kept_ledgers.json again, or those that are named, and writes their digests. A change that alters
results on purpose renews them in one commit that says why. A new case is an entry of that file's `runs`, renewed by its
name; `presets` and `set` are what one would write behind `python -m zorba_ray.run`.

All are made in this process; those that set `placement` come out the same on Ray, where the test runs them. Bits of
float kernels are promised on the same hardware and libraries only, so the file holds digests for each hardware that
they were made on. What comes out anew on one is forgotten on the others, whose digests would be old: there it skips
until somebody renews it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

KEPT = Path(__file__).with_suffix(".json")
LIBRARIES = ("torch", "numpy", "transformers", "numba", "highspy", "peft")  # those that results come from
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Case:
    """A run: presets, key=value arguments, and the digest of its ledger (empty: not kept on this hardware)."""

    presets: tuple[str, ...]
    set: tuple[str, ...]
    sha256: str

    @property
    def on_ray(self) -> bool:
        return any(each.startswith("placement=") for each in self.set)


@dataclass(frozen=True)
class Ran:
    """The digest of a ledger, and what happened to reports on the way to it."""

    sha256: str
    late: int
    stale: int  # reports that were late and joined a later round
    dropped: int
    excluded: int


@cache
def project() -> SimpleNamespace:
    """All that is needed of the package; nothing else here knows where in it things are."""
    from zorba_ray.ledger import ledger_sha256
    from zorba_ray.records.schema import RoundRecord
    from zorba_ray.runs.config import load_config
    from zorba_ray.runs.folder import LEDGER
    from zorba_ray.runs.simulate import Here, begin
    from zorba_ray.runs.summary import environment

    return SimpleNamespace(
        LEDGER=LEDGER, Here=Here, RoundRecord=RoundRecord, begin=begin, environment=environment,
        ledger_sha256=ledger_sha256, load_config=load_config,
    )  # fmt: skip


def kept() -> tuple[str, dict[str, Case]]:
    """Where this hardware is another than any that digests were made on (empty: it is not), and the cases by name."""
    content = json.loads(KEPT.read_text(encoding="utf-8"))
    digests, other = made_here(content)
    return other, {
        name: Case(tuple(run["presets"]), tuple(run["set"]), digests.get(name, ""))
        for name, run in content["runs"].items()
    }


def made_here(content: dict[str, Any]) -> tuple[dict[str, str], str]:
    """The digests of this hardware; or those of the nearest, and where it differs."""
    differences = [(difference(each["made_on"]), each["sha256"]) for each in content["kept"]]
    other, digests = min(differences, key=lambda pair: len(pair[0]))
    return digests, other


def fingerprint() -> dict[str, Any]:
    """Hardware and libraries that the bits of results depend on."""
    import torch

    found = project().environment(1)
    cpu = cpuinfo()
    has = cpu.get("flags", "").split()
    return {
        "python": ".".join(found["python"].split(".")[:2]),
        "system": found["system"],
        "cpu": found["cpu"],
        "cpu_family": cpu.get("cpu family", ""),
        "cpu_number": cpu.get("model", ""),
        "cpu_flags": [flag for flag in FLAGS if flag in has],
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "libraries": {name: version for name, version in found["libraries"].items() if name in LIBRARIES},
    }


def cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where the system has none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = [line.partition(":") for line in text.partition("\n\n")[0].splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


def difference(made_on: dict[str, Any]) -> str:
    """Where this machine is another than the digests were made on, in one line; empty: nowhere."""
    here = fingerprint()
    parts = []
    for name in sorted(here.keys() | made_on.keys()):
        mine, theirs = here.get(name), made_on.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            pairs = [(each, mine.get(each), theirs.get(each)) for each in sorted(mine.keys() | theirs.keys())]
        else:
            pairs = [(name, mine, theirs)]
        parts += [f"{what} is {a}, not {b}" for what, a, b in pairs if a != b]
    return "; ".join(parts)


def config_of(case: Case) -> Any:
    return project().load_config(None, list(case.set), case.presets)


def run(case: Case, folder: Path) -> Ran:
    """In this process, by one thread."""
    import torch

    torch.set_num_threads(1)
    here = project()
    simulation = here.begin(config_of(case), folder, False, here.Here())
    events = list(simulation.events)
    simulation.finish()
    return ran(simulation.folder, events)


def ran(folder: Path, events: list[Any]) -> Ran:
    rounds = [event for event in events if isinstance(event, project().RoundRecord)]
    counts = {name: sum(getattr(each, name) for each in rounds) for name in ("late", "stale", "dropped", "excluded")}
    return Ran(project().ledger_sha256(folder / project().LEDGER), **counts)


def renew(names: Sequence[str]) -> None:
    """Write the digests of these cases (none named: of all) as they come out here."""
    content = json.loads(KEPT.read_text(encoding="utf-8"))
    other, cases = kept()
    unknown = [name for name in names if name not in cases]
    if unknown:
        raise SystemExit(f"no case is called {unknown[0]!r}; there are {', '.join(cases)}")
    if names and other:
        raise SystemExit(f"nothing is kept of this hardware ({other}); renew all first, where results are as kept")
    if other:
        content["kept"].append({"made_on": fingerprint(), "sha256": {}})
    here, _ = made_here(content)
    with tempfile.TemporaryDirectory() as folder:
        for name in names or cases:
            here[name] = found = run(cases[name], Path(folder) / name).sha256
            print(f"{name:40} {found[:16]}{'' if found == cases[name].sha256 else '  (new)'}", flush=True)
            if not other and found != cases[name].sha256:
                for each in content["kept"]:
                    if each["sha256"] is not here:
                        each["sha256"].pop(name, None)
            KEPT.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] != ["--renew"]:
        raise SystemExit(__doc__)
    renew(sys.argv[2:])
