"""What the Ray runtime costs: `python analysis/bench_runtime.py [--json FILE] [--only PART …]`.

Parts, each in fresh processes on this machine's cores:
  overhead   1,000 clients whose losses cost nothing, against 10 of them: ms per round and ms per client
  driver     clients whose reports cost nothing at all, so that what is left is the driver's and Ray's: µs a client at
             10,000 of them, 20 rounds of 100,000, and what memory 1,000 rounds of 1,000 leave behind
  thousands  the embedded model, 5 rounds with all of 100 and of 10,000 clients: seconds per client-round, memory
  opt125m    100 clients on a model of OPT-125M's shape in cohorts: memory beside the model's own
  start      from the command to the first round's work
  resume     the same of a run that goes on at round 10,000, with the snapshots that it kept and without
  peers      a client's step of a small model beside a plain loop, with 1, 8 and 32 fused clients (fused_clients.py)

Everything runs through the real driver, client actors, ledger and records. Memory is the sum of the proportional set
sizes of all processes of the run, Ray's own included, so that a page shared by several counts once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from zorba_ray.runs.folder import LEDGER

GIB = 2**30
PARTS = ("overhead", "driver", "thousands", "opt125m", "start", "resume", "peers")


def null_driver() -> type:
    """A driver whose client actors have losses for free; the classes travel to the actors by value."""
    from zorba_ray.runtime import launch
    from zorba_ray.runtime.client import ClientActor
    from zorba_ray.runtime.driver import Driver

    class NullActor(ClientActor):
        """Everything of a client but its forwards: batches are drawn and made, probes listed and counted."""

        def setup(self, base: Any, offloads: bool, hidden: int) -> Any:
            import numpy as np

            from zorba_ray.engine.evaluate import Outcome
            from zorba_ray.rounds import host

            def nothing(model: Any, works: Any, kind: Any, hidden_memory: int) -> list[Outcome]:
                visits = tuple([1] * len(model.stages))
                right = [np.zeros((len(work.paths), work.batch.count), np.bool_) for work in works]
                return [Outcome(np.ones(len(each)), each, visits) for each in right]

            host.evaluate = nothing
            return super().setup(base, offloads, hidden)

    class NullComputeDriver(Driver):
        def __init__(self, *arguments: Any):
            launch.ClientActor = NullActor
            super().__init__(*arguments)

    return NullComputeDriver


def made_up_driver() -> type:
    """A driver whose client actors make their reports up as arrays, and that says how much memory it holds."""
    from zorba_ray.runtime import launch
    from zorba_ray.runtime.client import ClientActor
    from zorba_ray.runtime.driver import Driver

    class MadeUpActor(ClientActor):
        """Steps are applied and evaluations made as by any other; of a round's reports nothing is computed."""

        def probe(self, steps: Any, plan: Any, clients: Any, active: Any) -> Any:
            import numpy as np

            from zorba_ray.messages.reports import KINDS, Reports

            self._host.apply(steps)
            count = len(clients)
            each = {name: np.ones(count, kind) for name, kind in KINDS.items()}
            each |= {name: np.zeros(count, np.int64) for name in ("bus", "measured_bytes", "allocated_bytes")}
            each |= {"client": clients, "upload": np.full(count, 4 * plan.directions)}
            scalars = np.full(count, plan.directions)
            return Reports(
                values=np.ones(scalars.sum(), np.float32), counts=scalars, status=np.zeros(count, np.int8), **each
            )

    class MadeUpDriver(Driver):
        def __init__(self, *arguments: Any):
            launch.ClientActor = MadeUpActor
            super().__init__(*arguments)

        def memory(self) -> tuple[int, int]:
            """Resident bytes now, and the most so far."""
            import gc
            import resource

            from zorba_ray.runtime.metrics import resident_bytes

            gc.collect()
            return resident_bytes(), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def cpu(self) -> float:
            """Seconds of this process so far: what others do on the machine counts less there than in its rounds."""
            return time.process_time()

    return MadeUpDriver


def driver_limits() -> dict[str, float]:
    """A round's cost at 10,000 clients is split as its bar is: what is above 1.5 ms falls to the clients."""
    from zorba_ray.runtime.launch import answer

    made_up = made_up_driver()
    rows = {}
    with driver(overrides(10_000, 60), made_up) as (actor, _):
        seconds = seconds_of(answer(actor.advance.remote()))
        began, first = answer(actor.cpu.remote()), len(seconds)
        while events := answer(actor.advance.remote()):
            seconds += seconds_of(events)
        used = (answer(actor.cpu.remote()) - began) / (len(seconds) - first)
    rows["us_per_client_at_10000"] = (1e6 * statistics.median(seconds[1:]) - 1500) / 10_000
    rows["cpu_us_per_client_at_10000"] = (1e6 * used - 1500) / 10_000
    with driver(overrides(100_000, 20), made_up) as (actor, _):
        began, used = time.perf_counter(), answer(actor.cpu.remote())
        while answer(actor.advance.remote()):
            pass
        answer(actor.finish.remote(False, "", 0.0))
        rows["seconds_20_rounds_100000"] = time.perf_counter() - began
        rows["cpu_seconds_20_rounds_100000"] = answer(actor.cpu.remote()) - used
        rows["gib_driver_at_100000"] = answer(actor.memory.remote())[1] / GIB
    with driver(overrides(1000, 1100), made_up) as (actor, _):
        done, held = 0, {}
        while events := answer(actor.advance.remote()):
            done += len(events)
            if done >= 100 and not held:  # everything was imported, every buffer made
                held[done] = answer(actor.memory.remote())[0]
        (before,) = held.values()
        (first,) = held
        rows["mib_growth_1000_rounds"] = (answer(actor.memory.remote())[0] - before) / 2**20 * 1000 / (1100 - first)
    return rows


def overrides(clients: int, rounds: int, *more: str) -> list[str]:
    return [
        f"clients.count={clients}", f"rounds={rounds}", f"task.train_examples={max(4000, 4 * clients)}",
        "evaluation.every=1000000", "evaluation.examples=8", "allocation.plan=cyclic", *more,
    ]  # fmt: skip


@contextmanager
def driver(keys: Sequence[str], kind: type | None = None) -> Iterator[tuple[Any, Path]]:
    """A prepared driver actor on a Ray of its own."""
    import ray

    from zorba_ray.runs.config import load_config
    from zorba_ray.runtime.connect import connect, start_driver
    from zorba_ray.runtime.driver import Driver
    from zorba_ray.runtime.launch import answer

    folder = Path(tempfile.mkdtemp(prefix="bench_runtime_"))
    connect("local")
    try:
        actor = start_driver(kind or Driver, load_config(None, keys), str(folder / "run"), False)
        answer(actor.prepare.remote())
        yield actor, folder / "run"
    finally:
        ray.shutdown()
        shutil.rmtree(folder)


def round_seconds(keys: Sequence[str], kind: type | None = None) -> list[float]:
    """Seconds of each round but the first, which also warms up, each from the end of the last to its own."""
    from zorba_ray.runtime.launch import answer

    with driver(keys, kind) as (actor, _):
        seconds: list[float] = []
        while events := answer(actor.advance.remote()):
            seconds += seconds_of(events)
    return seconds[1:]


def seconds_of(events: Sequence[Any]) -> list[float]:
    """Of the rounds among what a driver tells."""
    from zorba_ray.records.schema import RoundRecord

    return [event.seconds for event in events if isinstance(event, RoundRecord)]


def overhead() -> dict[str, float]:
    """A line through the medians at 10 and 1,000 clients: what a round costs, and what a client adds."""
    null = null_driver()
    few, many = (statistics.median(round_seconds(overrides(*size), null)) for size in ((10, 200), (1000, 30)))
    slope = (many - few) / 990
    return {"overhead_ms_per_round": 1e3 * (few - 10 * slope), "overhead_ms_per_client": 1e3 * slope}


SHORT = ("zo.directions=1", "clients.batch=4")  # little work a client, so that what is not work shows


def thousands(repeats: int = 2) -> dict[str, float]:
    """10,000 clients against 100, alternating; a client-round's cost is a round's seconds over its clients."""
    costs: dict[int, list[float]] = {100: [], 10_000: []}
    peak = 0.0
    for _ in range(repeats):
        for clients in costs:
            with Watch() as watch:
                rounds = round_seconds(overrides(clients, 6 if clients > 100 else 60, *SHORT))
            costs[clients].append(statistics.median(rounds) / clients)
            if clients > 100:
                peak = max(peak, watch.peak)
    few, many = (statistics.median(costs[clients]) for clients in costs)
    return {
        "gib_at_10000": peak / GIB,
        "cost_ratio_10000_to_100": many / few,
        "ms_per_client_round_at_100": 1e3 * few,
        "ms_per_client_round_at_10000": 1e3 * many,
    }


MAKE_OPT125M = """
import sys, torch, transformers
torch.manual_seed(0)
module = transformers.OPTForCausalLM(transformers.OPTConfig())
module.save_pretrained(sys.argv[1])
print(sum(4 * p.numel() for p in module.parameters()))
"""


def opt125m() -> dict[str, float]:
    """Untrained weights of OPT-125M's shape, with the embedded model's tokenizer; made by a process of their own."""
    from zorba_ray.model.load import EMBEDDED

    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run([sys.executable, "-c", MAKE_OPT125M, folder], check=True, capture_output=True, text=True)
        size = int(made.stdout.split()[-1])
        for file in EMBEDDED.glob("*token*"):
            shutil.copy(file, folder)
        keys = overrides(100, 1, f"model.path={folder}", "clients.batch=8", "zo.directions=1")
        keys.append("clients.budgets.classes=[{name: all, budget: 2 GiB}]")
        with Watch() as watch:
            round_seconds(keys)
    return {"opt125m_100_clients_gib_above_model": (watch.peak - size) / GIB, "opt125m_gib": size / GIB}


def start(repeats: int = 5) -> dict[str, float]:
    """From the command to when the first round begins, all of the start and the evaluation before it included.

    The ledger is last written when the only round ends, and the record says how long that took.
    """
    from zorba_ray.records.stream import table
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "run"
            began = time.time()
            command = [sys.executable, "-m", "zorba_ray.run", "rounds=1", "evaluation.every=1", f"out={out}"]
            subprocess.run(command, check=True, capture_output=True)
            rounds = table(out).filter(pc.field("kind") == "round")
            seconds.append((out / LEDGER).stat().st_mtime - rounds["seconds"][0].as_py() - began)
    return {"seconds_to_first_round": statistics.median(seconds)}


def long_run(folder: Path, rounds: int) -> None:
    """A run of the embedded model whose clients make their scalars up; weights, ledger, records and snapshots are as
    in any other."""
    import numpy as np

    from zorba_ray.messages import Report, Tally
    from zorba_ray.rounds.local import LocalBackend
    from zorba_ray.runs.config import load_config
    from zorba_ray.runs.simulate import Here, begin

    draw = np.random.default_rng(0)

    class MadeUp(LocalBackend):
        def probe(self, plan: Any, active: Any) -> list[Report]:
            scalars = draw.normal(0, 0.1, (len(active), plan.directions)).astype(np.float32)
            return [Report(n, scalars[n], 1.0, 8, 24, 1e6, 0.0, upload=4 * plan.directions) for n in plan.participants]

        def evaluate(self) -> Tally:
            return Tally(4, 8.0, 8, bytes(8))

    keys = [f"rounds={rounds}", "evaluation.every=1000", "evaluation.examples=8", "allocation.plan=cyclic"]
    simulation = begin(load_config(None, keys), folder, False, Here(backend=MadeUp))
    while simulation.advance():
        pass
    simulation.finish()


def resume(rounds: int = 10_000) -> dict[str, float]:
    """From the command to when the next round begins; by the ledger's last line, as in `start`."""
    from zorba_ray.ledger.snapshot import FOLDER
    from zorba_ray.records.stream import table

    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        long_run(Path(name) / "long", rounds)
        for what in ("with", "without"):
            out = Path(name) / what
            shutil.copytree(Path(name) / "long", out)
            if what == "without":
                shutil.rmtree(out / FOLDER)
            began = time.time()
            command = [sys.executable, "-m", "zorba_ray.run", "--resume", str(out), f"rounds={rounds + 1}"]
            subprocess.run(command, check=True, capture_output=True)
            last = table(out).filter((pc.field("kind") == "round") & (pc.field("round") == rounds))
            seconds[what] = (out / LEDGER).stat().st_mtime - last["seconds"][0].as_py() - began
    return {f"seconds_to_go_on_at_{rounds}_{what}_snapshots": each for what, each in seconds.items()}


class Watch:
    """The most memory that this process and everything under it held at once, looked at a few times a second."""

    def __enter__(self) -> Watch:
        self.peak = 0
        self._stop = threading.Event()
        self._before = family()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.25):
            self.peak = max(self.peak, sum(proportional(pid) for pid in family()))


def family() -> set[int]:
    """This process and its descendants; Ray's processes are started by it."""
    import psutil

    me = psutil.Process()
    return {me.pid, *(child.pid for child in me.children(recursive=True))}


def proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def peers() -> dict[str, float]:
    import fused_clients  # torch, which this process needs for nothing else

    return fused_clients.peers()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", help="write the numbers to this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows: dict[str, float] = {}
    measures = (overhead, driver_limits, thousands, opt125m, start, resume, peers)
    for part in arguments.only:
        rows |= dict(zip(PARTS, measures, strict=True))[part]()
        for name, value in rows.items():
            print(f"{name:<40} {value:10.3f}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
