"""summary.json: a run in a few dozen numbers, for scripts and comparisons."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zorba_ray import __version__
from zorba_ray.config.environment import written
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger.tensors import tensor_bytes
from zorba_ray.records.schema import SCHEMA
from zorba_ray.runs.folder import write_whole
from zorba_ray.runs.source import source_state

FILE = "summary.json"
HOW_MANY = ("cores", "actors")  # of an environment: no result depends on it
LIBRARIES = ("ray", "torch", "transformers", "numpy", "numba", "highspy", "pyarrow", "peft", "datasets")


@dataclass
class Summary:
    """Names other people's scripts rely on: keep them. Numbers that do not exist yet are null."""

    name: str
    seed: int
    clients: int
    rounds: int  # asked for
    rounds_done: int
    method: str
    placement: str  # as it came out, never auto
    model: str
    task: str
    accuracy_first: float | None
    accuracy_last: float | None
    accuracy_best: float | None
    test_loss_first: float | None
    test_loss_last: float | None
    loss_first: float | None
    loss_last: float | None  # training loss of the last round
    seconds: float  # from the command to its end, over all sittings that ended with a summary
    seconds_rounds: float  # of them in rounds, evaluation left out
    bytes_up: int  # from clients, all rounds
    bytes_down: int  # to clients
    flops: float
    ledger_sha256: str
    model_sha256: str  # of the block vectors after the last round; empty: nobody could say, see the notes
    ledger_bytes: int  # with the tensors beside it
    interrupted: bool
    stopped: str = ""  # why, where the run ended early by itself
    virtual_seconds: float | None = None  # of all rounds on the simulated fleet; null: none is configured
    late: int = 0  # reports that came too late for their round, all rounds
    dropped: int = 0  # participants that never reported
    excluded: int = 0  # reports that were left out
    epsilon: float | None = None  # privacy spent, at privacy.delta; null: no noise is added
    client_accuracy: float | None = None  # last: mean over the clients, each on test data like its own
    client_accuracy_worst: float | None = None  # and over the tenth of them with the lowest
    backward_flops: float = 0.0  # beside `flops`, of training with gradients
    score: float | None = None  # last, of generated answers: F1 or Rouge-L (accuracy: exact matches)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    version: str = __version__

    def write(self, run_dir: Path) -> Path:
        """Write summary.json, whole or not at all. What is not finite becomes null: JSON has no word for it."""
        path = run_dir / FILE
        values = {name: _finite(value) for name, value in dataclasses.asdict(self).items()}
        write_whole(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path


def summarise(
    config: Config,
    records: Iterable[pa.Table],
    ledger: Path,
    placement: str,
    model_sha256: str,
    seconds: float,
    environment: dict[str, Any],
    interrupted: bool = False,
    stopped: str = "",
    notes: list[str] | None = None,
) -> Summary:
    """The summary of a run from its records, part by part, those of earlier sittings included."""
    parts = {"round": [SCHEMA.empty_table()], "evaluation": [SCHEMA.empty_table()]}
    flops, backward_flops = Fraction(), Fraction()
    for part in records:
        for kind, found in parts.items():
            found.append(part.filter(pc.equal(part["kind"], kind)))
        clients = part.filter(pc.equal(part["kind"], "client"))
        flops += exact_sum(clients["flops"])
        backward_flops += exact_sum(clients["backward_flops"])
    rounds, evaluations = (pa.concat_tables(found).sort_by("round") for found in parts.values())
    accuracies, test_losses = evaluations["accuracy"].to_pylist(), evaluations["loss"].to_pylist()
    losses = rounds["loss"].to_pylist()
    content = ledger.read_bytes()
    return Summary(
        name=config.name,
        seed=config.seed,
        clients=config.clients.count,
        rounds=config.rounds,
        rounds_done=rounds.num_rows,
        method=config.method,
        placement=placement,
        model=written(config.model.called),
        task=written(config.task.name),
        accuracy_first=accuracies[0] if accuracies else None,
        accuracy_last=accuracies[-1] if accuracies else None,
        accuracy_best=max(accuracies, default=None),
        test_loss_first=test_losses[0] if test_losses else None,
        test_loss_last=test_losses[-1] if test_losses else None,
        loss_first=losses[0] if losses else None,
        loss_last=losses[-1] if losses else None,
        seconds=seconds,
        seconds_rounds=pc.sum(rounds["seconds"]).as_py() or 0.0,
        bytes_up=pc.sum(rounds["bytes_up"]).as_py() or 0,
        bytes_down=pc.sum(rounds["bytes_down"]).as_py() or 0,
        flops=float(flops),
        ledger_sha256=hashlib.sha256(content).hexdigest(),
        ledger_bytes=len(content) + tensor_bytes(ledger.parent),
        model_sha256=model_sha256,
        interrupted=interrupted,
        stopped=stopped,
        virtual_seconds=pc.max(rounds["virtual_seconds"]).as_py(),
        late=pc.sum(rounds["late"]).as_py() or 0,
        dropped=pc.sum(rounds["dropped"]).as_py() or 0,
        excluded=pc.sum(rounds["excluded"]).as_py() or 0,
        epsilon=pc.max(rounds["epsilon"]).as_py(),
        client_accuracy=evaluations["client_accuracy"].to_pylist()[-1] if accuracies else None,
        client_accuracy_worst=evaluations["client_accuracy_worst"].to_pylist()[-1] if accuracies else None,
        backward_flops=float(backward_flops),
        score=evaluations["score"].to_pylist()[-1] if accuracies else None,
        notes=notes or [],
        environment=environment,
    )


def exact_sum(values: pa.ChunkedArray) -> Fraction:
    """The sum without rounding, so that how records are parted into files changes no bit of a total. Few values occur,
    each often."""
    counted = pc.value_counts(pc.drop_null(values)).to_pylist()
    return sum((Fraction(each["values"]) * each["counts"] for each in counted), Fraction())


def read_summary(run_dir: Path) -> Summary:
    path = run_dir / FILE
    try:
        return Summary(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{run_dir} has no {FILE}: it is not the folder of a run, or the run never began") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not a summary of this version of zorba_ray: {error}") from None


def environment(threads: int, device: str = "cpu") -> dict[str, Any]:
    """What results may depend on beside config and seed: kind of hardware, library versions, threads of an actor."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "libraries": {name: version for name in LIBRARIES if (version := _installed(name))},
        **({"commit": commit} if (commit := source_state()) else {}),
    }


def unlike(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Where two environments differ; an entry that only one of them has tells nothing."""
    for name in sorted(then.keys() & now.keys()):
        a, b = then[name], now[name]
        if name in HOW_MANY:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            yield from unlike(a, b)
        elif a != b:
            yield f"{name} {a} against {b}"


def cpu_model() -> str:
    """The processor's name where the system tells it (Linux), else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
