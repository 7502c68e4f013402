"""The Python API: the commands as functions. `from zorba_ray import run, allocate, replay, study, open_run`."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config

if TYPE_CHECKING:
    import pyarrow as pa

    from zorba_ray.allocation import Plan
    from zorba_ray.commands.front import BackendName
    from zorba_ray.commands.result import Result
    from zorba_ray.runs.audit import Audit
    from zorba_ray.runs.difference import Difference
    from zorba_ray.runs.evaluate import Evaluation
    from zorba_ray.runs.replay import Replayed, Rounds
    from zorba_ray.runs.verify import Verified

__all__ = [
    "StudyResult", "allocate", "audit", "diff", "evaluate", "load_config", "open_run", "replay", "run", "study",
    "verify",
]  # fmt: skip


def load_config(*configs: str | Path | Config, **keys: Any) -> Config:
    """The config of a run, checked.

    `configs` are files or the bare names of some in `configs/`, each over the one before (none: the embedded default),
    or one `Config` as it is. A key is a keyword, a section a mapping: `load_config("opt125m_sst2", rounds=20,
    zo={"directions": 8})`. `ConfigError`, one line, says what cannot be.
    """
    from zorba_ray.runs import config as loader

    ready = [each for each in configs if isinstance(each, Config)]
    if ready:
        if len(configs) > 1 or keys:
            raise ConfigError("a ready Config stands alone; change it with dataclasses.replace")
        return loader.checked(ready[0])
    files = [str(each) for each in configs]
    try:
        return loader.load_config(files[0] if files else None, arguments(keys), files[1:])
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("command line: ")) from None


def run(
    *configs: str | Path | Config,
    resume: str | Path | None = None,
    backend: BackendName = "ray",
    progress: bool = True,
    trust_code: bool = False,
    **keys: Any,
) -> Result:
    """Simulate one run and return it, with its summary, records, plan and model.

    `configs` and `keys` are those of `load_config`; with `resume`, the folder of a run to go on with, only the keys
    that `zorba-ray run --resume` takes. `backend="ray"` uses the Ray that is up in this process and leaves it up, or
    else connects as `runtime.address` says; `backend="local"` computes everything in this process. `progress=False`
    shows nothing. `trust_code`: code that the resumed folder's config names may run. Ctrl-C (in a notebook:
    interrupting the kernel) ends the run after its round, and its result says so; SIGTERM does so, too, and then ends
    the process.
    """
    from zorba_ray.commands.front import conduct
    from zorba_ray.commands.result import Result
    from zorba_ray.commands.signals import Signals, terminable
    from zorba_ray.report.display import Display
    from zorba_ray.runs.new import run_folder
    from zorba_ray.runs.resume import resumed_config

    started = time.perf_counter()
    if backend not in ("ray", "local"):
        raise ConfigError(f"backend is {backend!r}; it must be ray or local")
    if resume is not None:
        if configs:
            raise ConfigError("a resumed run keeps its config: give either configs or resume")
        folder = Path(resume)
        config = resumed_config(folder, arguments(keys), trust_code)
    else:
        config = load_config(*configs, **keys)
        folder = run_folder(config)
    display = Display(config.rounds, config.name, None if progress else io.StringIO())
    with terminable(Signals(folder, resume is not None)) as signals:
        ended = conduct(config, folder, resume is not None, backend, display, started, signals)
    return Result(ended.folder, trusted=True)


def open_run(run: str | Path, trust_code: bool = False) -> Result:
    """A run that has ended or that goes on in another process, from its folder or from the folder's name below `runs/`.
    `trust_code`: code that its config names may run, to understand it or to open its model."""
    from zorba_ray.commands.result import Result

    return Result(folder_of(run), trust_code)


def allocate(*configs: str | Path | Config, **keys: Any) -> Plan:
    """Solve the allocation of a run without running it: who tunes which blocks, with its proof. Arguments as of
    `load_config`."""
    from zorba_ray.allocation import make_plan
    from zorba_ray.runs.prepare import load_problem

    config = load_config(*configs, **keys)
    return make_plan(load_problem(config, asked=True).instance, config.allocation, config.seed)


def replay(
    run: str | Path | Result,
    rounds: Rounds = None,
    export: str | Path | None = None,
    client: int | None = None,
    trust_code: bool = False,
) -> Replayed:
    """The model of a run after `rounds` rounds (all of them, or `"best"`: after the best evaluated one), bit for bit,
    checked against the run's summary. `export`: a new folder that `transformers` opens with `from_pretrained`.
    `client`: as this one has it then, with the rounds that it has downloaded. `trust_code`, here and below: code that
    the folder's config names may run (a `Result` says so itself)."""
    from zorba_ray.commands.replay import replayed

    folder = trusted_folder(run, trust_code)
    return replayed(folder, rounds, Path(export) if export is not None else None, client=client)[0]


def verify(run: str | Path | Result, trust_code: bool = False) -> Verified:
    """Walk through a run's folder: seals, tensors, records, every round made again from its recorded scalars, totals.
    Nothing is trained or loaded."""
    from zorba_ray.runs.verify import verify

    return verify(trusted_folder(run, trust_code))


def audit(run: str | Path | Result, client: int, round: int, trust_code: bool = False) -> Audit:
    """Let a client do its part of a round again, and compare with what was recorded of it, to the bit."""
    from zorba_ray.runs.audit import audit

    return audit(trusted_folder(run, trust_code), client, round)


def diff(run: str | Path | Result, other: str | Path | Result, trust_code: bool = False) -> Difference:
    """Where two runs part: round, block, direction, coefficient, and what was recorded that may be why."""
    from zorba_ray.runs.difference import difference

    return difference(trusted_folder(run, trust_code), trusted_folder(other, trust_code))


def evaluate(run: str | Path | Result, rounds: Rounds = None, trust_code: bool = False, **keys: Any) -> Evaluation:
    """The model of a run after `rounds` rounds on its own test data, or on what `keys` say (`task`, `evaluation`):
    `evaluate(run, task={"name": "files", "train": "a.tsv", "test": "b.tsv"})`."""
    from zorba_ray.runs.evaluate import evaluate

    return evaluate(trusted_folder(run, trust_code), rounds, arguments(keys))


def trusted_folder(run: str | Path | Result, trust_code: bool) -> Path:
    """The folder of a run, once code that its config names is known to be wanted: as the command asks for it."""
    from zorba_ray.runs.trust import refuse_untrusted

    folder = folder_of(run)
    refuse_untrusted(folder, trust_code or (not isinstance(run, str | Path) and run.trusted))
    return folder


def folder_of(run: str | Path | Result) -> Path:
    """Of a run by its folder, or by the folder's name below `runs/`."""
    if not isinstance(run, str | Path):
        return run.folder
    return Path(run) if Path(run).exists() else Path("runs") / run


@dataclass(frozen=True)
class StudyResult:
    """What came of a study."""

    folder: Path
    text: str  # the tables
    worked: bool  # whether any final run did

    @property
    def results(self) -> pa.Table:
        """A row for each evaluation of each run, costs summed up to it."""
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / "results.parquet")


def study(
    study: str | Path | None = None,
    *,
    resume: str | Path | None = None,
    progress: bool = True,
    trust_code: bool = False,
    **keys: Any,
) -> StudyResult:
    """Carry out a study, by its file or name, and return its tables. A key of the study wins over the key of every run
    of the same name; `resume`: the folder of a study to go on with. Ray, `trust_code`, Ctrl-C and SIGTERM as in `run`,
    but that Ctrl-C is raised: runs that are done are kept in its folder."""
    from zorba_ray.commands.signals import Signals, terminable
    from zorba_ray.commands.study import carry_out, conclude, go_on, opened

    name, stream = None if study is None else str(study), None if progress else io.StringIO()
    signals = Signals(go_on=go_on)
    with terminable(signals), opened(name, arguments(keys), resume, trust_code) as (opened_study, folder):
        signals.folder, signals.begun = folder, True
        carry_out(opened_study, folder, stream)
        text, worked = conclude(opened_study, folder)
    return StudyResult(folder, text, worked)


def arguments(keys: Mapping[str, Any], path: str = "") -> list[str]:
    """Keywords as the command line's key=value."""
    found: list[str] = []
    for name, value in keys.items():
        if isinstance(value, Mapping):
            found += arguments(value, f"{path}{name}.")
        else:
            found.append(f"{path}{name}={text_of(value)}")
    return found


def text_of(value: Any) -> str:
    """A value as one would type it. Text stands as it is, unless its own quotes would be taken for ours."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value[:1] in ("'", '"') else value
    return json.dumps(value, ensure_ascii=False, default=lambda other: other.item())
