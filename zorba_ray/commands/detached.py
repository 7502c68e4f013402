"""Runs that go on without a terminal: `run --detach` begins one, `list`, `attach` and `stop` find it again.

A detached run is a process of its own in a session of its own. Beside its folder lie FOLDER.process.json, which says
which process it is, and FOLDER.log, what it would have shown. On a cluster (`--address`) the drivers' actors are asked
instead, whoever began them.
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.config.words import text_table
from zorba_ray.runs.folder import make_folder

if TYPE_CHECKING:
    from zorba_ray.runtime.news import Progress

PROCESS, LOG = ".process.json", ".log"
GOING_ON = {"--resume", "--resume-or-start"}  # flags that name the folder
GLANCE = 0.2  # seconds between looks at another process's log
WATCHED = 1.0  # and between questions to a driver

ADDRESS = Flag("--address", "on the Ray cluster at auto, host:port or ray://host:port, not on this machine", "RAY")
LIST = Program(
    "zorba-ray list",
    "Detached runs whose folders are in FOLDER (or in runs/), and how far they are; or with --address the runs on a "
    "cluster.",
    (ADDRESS,),
    (("", "those in runs/"), ("--address auto", "those on the cluster of this machine")),
    argument="FOLDER",
)
ATTACH = Program(
    "zorba-ray attach",
    "Watch a run: what a detached one of this machine has shown, and what it shows until it ends; or with --address "
    "how far a run on a cluster is. Ctrl-C leaves it going on.",
    (ADDRESS,),
    (("runs/run-20260101-120000", "until it ends"), ("run --address auto", "by its name on a cluster")),
    argument="RUN",
)
STOP = Program(
    "zorba-ray stop",
    "End a run after its round, as Ctrl-C would: its summary and report are written, and it can be resumed.",
    (ADDRESS,),
    (
        ("runs/run-20260101-120000", "a detached run of this machine"),
        ("run --address auto", "by its name on a cluster"),
    ),
    argument="RUN",
)


@dataclass(frozen=True)
class Process:
    """Which process carries a run, and where."""

    folder: str
    name: str
    rounds: int
    pid: int
    born: str  # as the system tells it: another process may get the number later
    machine: str
    command: list[str]

    @property
    def alive(self) -> bool:
        return self.machine == platform.node() and self.born == birth(self.pid)


def main(argv: Sequence[str] | None, name: str) -> int:
    """`list`, `attach` or `stop`, by the last word of `name`; the exit status."""
    program, work = {"list": (LIST, show), "attach": (ATTACH, attach), "stop": (STOP, stop)}[name.split()[-1]]
    return enter(replace(program, name=name), argv, work)


def detach(command: Command, config: Config, folder: Path) -> Done:
    """Begin the run of this line in the background. The line itself was checked: only what needs model, data or Ray can
    still go wrong, and is in the log. The folder of a new run is made here, where another may begin in this second."""
    here = "--local" in command.flags or config.runtime.address == "local"
    if here and not GOING_ON & command.flags.keys():
        folder = make_folder(config, folder)
    folder = folder.absolute()
    beside(folder, LOG).parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-u", "-m", "zorba_ray.run", *line_of(command, folder)]
    with beside(folder, LOG).open("ab") as log:
        child = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=heed_interrupts
        )
    process = Process(str(folder), config.name, config.rounds, child.pid, birth(child.pid), platform.node(), line)
    beside(folder, PROCESS).write_text(json.dumps(asdict(process), indent=1), encoding="utf-8")
    print(f"Goes on as process {child.pid} in {folder}")
    print(f"Watch   zorba-ray attach {folder}\nEnd     zorba-ray stop {folder}")
    return Done(asdict(process))


def line_of(command: Command, folder: Path) -> list[str]:
    """The arguments again, for a run that stays where it is: not --detach, and in this folder."""
    flags = {name: value for name, value in command.flags.items() if name not in ("--detach", "--json")}
    going_on = GOING_ON & flags.keys()
    files = [each for each in (command.config_path, *command.more) if each is not None]
    return [*files, *command.overrides, *([] if going_on else [f"out={folder}"]),
            *(f"{name}={value}" if value else name for name, value in flags.items())]  # fmt: skip


def heed_interrupts() -> None:
    """A child of a background job would ignore what `stop` sends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def birth(pid: int) -> str:
    """When a process began, in the system's own words; empty: it is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip()


def process_of(run: str) -> Process:
    """The process of a detached run, by the run's folder or its name below runs/."""
    for folder in (Path(run).absolute(), Path("runs").absolute() / run):
        path = beside(folder, PROCESS)
        if path.is_file():
            return Process(**json.loads(path.read_text(encoding="utf-8")))
    missing = beside(Path(run), PROCESS)
    raise ConfigError(f"{run} is no detached run: there is no {missing}; `zorba-ray list` has them all")


def state(process: Process) -> dict[str, Any]:
    """How far a run is, from its folder."""
    from zorba_ray.ledger import count_rounds, has_header
    from zorba_ray.runs.folder import LEDGER
    from zorba_ray.runs.summary import FILE, read_summary

    folder = Path(process.folder)
    ledger = folder / LEDGER
    done = count_rounds(ledger) if has_header(ledger) else 0
    if process.machine != platform.node():
        what = f"on {process.machine}"
    elif process.alive:
        what = "running"
    elif not (folder / FILE).is_file():
        what = "died" if ledger.is_file() else "never began"
    else:
        summary = read_summary(folder)
        what = "interrupted" if summary.interrupted else "stopped" if summary.stopped else "finished"
        behind = done - summary.rounds_done  # an interrupt may come between a round's entry and its records
        what = what if behind == 0 or (summary.interrupted and behind == 1) else "died"
    return {"run": process.folder, "state": what, "rounds_done": done, "rounds": process.rounds, "pid": process.pid}


def show(command: Command) -> Done:
    """`list`."""
    if "--address" in command.flags:
        runs = [{"run": name, "state": "running"} for name in drivers(command.flags["--address"])]
    else:
        paths = sorted(Path(command.config_path or "runs").glob(f"*{PROCESS}"))
        runs = [state(Process(**json.loads(path.read_text(encoding="utf-8")))) for path in paths]
    if not runs:
        print("no runs")
    else:
        names = list(runs[0])
        print(text_table(names, [[str(run[name]) for name in names] for run in runs]))
    return Done({"runs": runs})


def attach(command: Command) -> Done:
    """Follow the log until the process is gone."""
    run = needed(command, ATTACH)
    if "--address" in command.flags:
        return watch(driver_of(command.flags["--address"], run))
    process = process_of(run)
    with beside(Path(process.folder), LOG).open(encoding="utf-8", errors="replace") as log:
        while True:
            alive = process.alive  # before the last look: what it said just before its end is there
            print(log.read(), end="", flush=True)
            if not alive:
                return Done(state(process))
            time.sleep(GLANCE)


def watch(driver: Any) -> Done:
    """A line whenever a run on a cluster has come further, until its driver is gone."""
    import ray

    last: Any = None
    while True:
        try:
            now = ray.get(driver.progress.remote())
        except ray.exceptions.RayActorError:
            break
        if last is None or (now.rounds_done, now.stage) != (last.rounds_done, last.stage):
            print(line_of_progress(now), flush=True)
        last = now
        time.sleep(WATCHED)
    if last is None:
        raise ConfigError("the run's driver went before it answered")
    print(f"The driver is gone; what it came to is in {last.folder} on {last.machine}")
    return Done({**asdict(last), "state": "ended"})


def line_of_progress(now: Progress) -> str:
    known = ((f"loss {now.loss:.4f}", now.loss), (f"test accuracy {now.accuracy:.1%}", now.accuracy))
    told = (text for text, value in known if not math.isnan(value))
    return "  ".join([f"round {now.rounds_done}/{now.rounds}", *told, now.stage])


def stop(command: Command) -> Done:
    """Ask, and wait until it is done."""
    run = needed(command, STOP)
    if "--address" in command.flags:
        import ray

        ray.get(driver_of(command.flags["--address"], run).stop.remote())
        print(f"{run} ends after this round")
        return Done({"run": run, "state": "stopping"})
    process = process_of(run)
    if process.machine != platform.node():
        raise ConfigError(f"{run} goes on on {process.machine}; stop it there")
    if process.alive:
        os.kill(process.pid, signal.SIGINT)
        while process.alive:
            time.sleep(GLANCE)
    came_to = state(process)
    print(f"{process.folder}: {came_to['state']} after {came_to['rounds_done']} of {came_to['rounds']} rounds")
    return Done(came_to)


def needed(command: Command, program: Program) -> str:
    if command.config_path is None:
        raise ConfigError(f"which run? {program.name} RUN takes the folder of a run; `zorba-ray list` has them all")
    return command.config_path


def drivers(address: str) -> dict[str, tuple[str, str]]:
    """Names of the runs on a cluster, and the name and namespace of each driver's actor."""
    import ray

    from zorba_ray.runtime.connect import DRIVER, connect

    if not ray.is_initialized():
        connect(address)
    found = [(each["name"], each["namespace"]) for each in ray.util.list_named_actors(all_namespaces=True)]
    mine = [(name, space) for name, space in found if name.startswith(DRIVER)]
    counts = {name: sum(other == name for other, _ in mine) for name, _ in mine}
    return {
        name.removeprefix(DRIVER) + (f"@{space}" if counts[name] > 1 else ""): (name, space) for name, space in mine
    }


def driver_of(address: str, run: str) -> Any:
    """The actor of a run's driver, by the run's name."""
    import ray

    found = drivers(address)
    if run not in found:
        known = f"there are {', '.join(found)}" if found else "there is none"
        raise ConfigError(f"no run on the cluster is called {run!r}; {known}")
    name, space = found[run]
    return ray.get_actor(name, namespace=space)
