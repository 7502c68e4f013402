"""The same federated zeroth-order work by zorba_ray and its peers, and the ratios: `python analysis/peers/compare.py`.

Each peer gets an environment of its own (--place), with the versions below, torch among them. The work: a small OPT
with random weights (1.2 M numbers, float32), N clients, each with 8 texts of 18 tokens; a round is two forwards of
every client at θ ± μz, one direction that all share, and a step with the mean of the scalars. Every process computes
on one thread.

A peer runs for few rounds and for many. What the difference took, divided by the client-steps in it, is a client-step;
what is left of the short run is everything else: imports, start and end. CPU time is that of all processes of a run,
read from /proc; memory is the most that they held together (proportional set size). Medians over --repeats.

Writes analysis/results/peers.json and peers.md, anew after each repeat. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TORCH = ["torch==2.13.0", "transformers==5.23.0", "numpy==2.4.6"]
PEERS = {"flower": "flwr[simulation]==1.42.0", "pfl": "pfl[pytorch]==0.6.0"}
SUBREAPER = 36  # of prctl: processes whose parent died become ours, so that none is lost
TICK = os.sysconf("SC_CLK_TCK")
PAUSE, WEIGH = 0.25, 4  # seconds between two looks, and looks between two at memory, which are dearer
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
         "TOKENIZERS_PARALLELISM": "false", "RAY_memory_monitor_refresh_ms": "0"}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    name: str
    peer: str  # "" runs in this interpreter
    script: str  # empty: zorba_ray itself
    flags: tuple[str, ...]
    differs: str


WAYS = (
    Way("zorba_ray", "", "", (), "on Ray; base + direction, a version of a block once for all clients of an actor; "
        "ledger, records and report written"),
    Way("zorba_ray --local", "", "", ("--local",), "the same in one process"),
    Way("plain loop", "", "plain.py", (), "the textbook client, in place: three moves and two forwards; nothing kept"),
    Way("plain loop, moved once", "", "plain.py", ("--way", "once"), "three moves a round for all clients together; "
        "nothing kept"),
    Way("pfl", "pfl", "pfl_research.py", (), "the textbook client on pfl's simulated backend, one process; nothing "
        "kept"),
    Way("Flower, scalars", "flower", "flower.py", ("--way", "scalars"), "the textbook client on Ray; workers keep a "
        "model and replay steps from scalars"),
    Way("Flower, weights", "flower", "flower.py", ("--way", "weights"), "the textbook client on Ray; weights travel "
        "down and up, FedAvg averages them"),
)  # fmt: skip


@dataclass(frozen=True)
class Taken:
    cpu: float  # seconds
    wall: float
    memory: int  # bytes
    first: float | None  # mean scalar of the first round, of those who say it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, nargs=2, default=(4, 28), metavar=("FEW", "MANY"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--place", type=Path, default=ROOT / "build" / "peers", help="where the environments are made")
    parser.add_argument("--only", nargs="*", choices=[way.name for way in WAYS], default=[way.name for way in WAYS])
    parser.add_argument("--out", type=Path, default=ROOT / "analysis" / "results")
    given = parser.parse_args()
    few, many = given.rounds
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    chosen = [way for way in WAYS if way.name in given.only]
    missing = {peer: why for peer in {way.peer for way in chosen} - {""} if (why := install(peer, given.place))}
    taken: dict[str, list[tuple[Taken, Taken]]] = {}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place) / "work"
        write_work(work, given.clients)
        for _ in range(given.repeats):
            for way in chosen:
                if way.peer not in missing:
                    print(f"{way.name} …", file=sys.stderr, flush=True)
                    both = [measure(line(way, given.place, work, Path(place), given.clients, r)) for r in (few, many)]
                    taken.setdefault(way.name, []).append((both[0], both[1]))
            agree(taken)
            write(given, chosen, taken, missing)
    print((given.out / "peers.md").read_text(encoding="utf-8"))


def write(
    given: argparse.Namespace, chosen: list[Way], taken: dict[str, list[tuple[Taken, Taken]]], missing: dict[str, str]
) -> None:
    few, many = given.rounds
    rows = [row_of(way, taken.get(way.name, []), given.clients, few, many, missing) for way in chosen]
    repeats = max(map(len, taken.values()))
    told = {
        "command": f"python analysis/peers/compare.py --clients {given.clients} --rounds {few} {many} "
                   f"--repeats {repeats}",
        "machine": f"{os.cpu_count()} cores, {cpu()}, other work beside it: CPU time and ratios are what to read",
        "versions": [f"zorba_ray=={metadata.version('zorba-ray')} on ray=={metadata.version('ray')}", *PEERS.values(),
                     f"all with Python {sys.version.split()[0]} and {' '.join(TORCH)}"],
        "rows": rows,
        "runs": {name: [[asdict(each) for each in pair] for pair in pairs] for name, pairs in taken.items()},
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "peers.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (given.out / "peers.md").write_text(page(told, given.clients), encoding="utf-8")


def install(peer: str, place: Path) -> str:
    """Make an environment, unless it is there; what went wrong, in a line."""
    folder = place / peer
    if (folder / "done").exists():
        return ""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    line = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *TORCH, PEERS[peer]]
    made = subprocess.run(line, capture_output=True, text=True, check=False)
    if made.returncode:
        wrong = [text for text in made.stderr.splitlines() if text.startswith("ERROR")] or [made.stderr[-200:]]
        asked = " ".join([*TORCH, PEERS[peer]])
        return f"Python {sys.version_info.major}.{sys.version_info.minor} with {asked}: {wrong[-1]}"
    (folder / "done").touch()
    return ""


def write_work(folder: Path, clients: int) -> None:
    sys.path.insert(0, str(HERE))
    import workload

    from zorba_ray.playground import MODEL

    workload.make(folder, clients, MODEL)


def line(way: Way, environments: Path, work: Path, place: Path, clients: int, rounds: int) -> list[str]:
    python = str(environments / way.peer / "bin" / "python") if way.peer else sys.executable
    if way.script:
        return [python, str(HERE / way.script), "--folder", str(work), "--rounds", str(rounds), *way.flags]
    keys = [
        f"rounds={rounds}", f"clients.count={clients}", "clients.batch=8", "clients.partition=iid", "zo.directions=1",
        "zo.mu=0.001", f"model.path={work}", "model.precision=float32", "allocation.plan=full",
        "clients.budgets.classes=[{name: all, budget: 1 GiB}]", "step.lr=1e-6", f"evaluation.every={rounds}",
        "evaluation.examples=8", f"out={tempfile.mkdtemp(dir=place)}",
    ]  # fmt: skip
    return [python, "-m", "zorba_ray.run", *way.flags, *keys]


def measure(command: list[str]) -> Taken:
    """Run a command and everything that it starts, until none of it is left."""
    here = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    with tempfile.TemporaryFile("w+") as out:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=here)
        spent: dict[tuple[int, str], float] = {}
        memory, wall, looks = 0, 0.0, 0
        while alive := family():
            if looks % WEIGH == 0:
                memory = max(memory, sum(pss(number) for number, _ in alive))
            looks += 1
            spent |= alive
            if not wall and process.poll() is not None:
                wall = time.monotonic() - started
                stop(alive)
            time.sleep(PAUSE)
            reap(process)
        out.seek(0)
        text = out.read()
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{text[-3000:]}")
        said = re.search(r"^ROUND 0 \S+ (\S+)", text, re.MULTILINE)
        return Taken(sum(spent.values()), wall or time.monotonic() - started, memory, float(said[1]) if said else None)


def family() -> dict[tuple[int, str], float]:
    """CPU seconds of every process below this one, by number and birth."""
    parents: dict[int, tuple[int, str, float, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        state, parent, *rest = stat.rpartition(")")[2].split()
        parents[int(folder.name)] = (int(parent), rest[17], (int(rest[9]) + int(rest[10])) / TICK, state)
    ours, found = {os.getpid()}, {}
    grown = True
    while grown:
        new = {number for number, each in parents.items() if each[0] in ours} - ours
        ours |= new
        grown = bool(new)
    for number in ours - {os.getpid()}:
        _, birth, seconds, state = parents[number]
        if state != "Z":
            found[number, birth] = seconds
    return found


def pss(number: int) -> int:
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(text.split()[1]) for text in lines if text.startswith("Pss:")), 0)


def stop(alive: dict[tuple[int, str], float]) -> None:
    """What a command leaves behind when it ends, such as idle workers of Ray."""
    for number, _ in alive:
        try:
            os.kill(number, 15)
        except ProcessLookupError:
            continue


def reap(process: subprocess.Popen[bytes]) -> None:
    """Collect orphans that became ours; the command's own status is left to `process`."""
    process.poll()
    for number in [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]:
        try:
            if number != process.pid and parent_of(number) == os.getpid():
                os.waitpid(number, os.WNOHANG)
        except (ChildProcessError, OSError):
            continue


def parent_of(number: int) -> int:
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def agree(taken: dict[str, list[tuple[Taken, Taken]]]) -> None:
    """Whoever runs the textbook client must come to the same scalars: then it is the same work."""
    said = {round(run.first, 2) for pairs in taken.values() for pair in pairs for run in pair if run.first is not None}
    if len(said) > 1:
        sys.exit(f"the peers do not do the same work: first scalars {sorted(said)}")


def row_of(
    way: Way, pairs: list[tuple[Taken, Taken]], clients: int, few: int, many: int, missing: dict[str, str]
) -> dict[str, object]:
    if not pairs:
        return {"name": way.name, "why": f"not installed: {missing[way.peer]}"}
    steps = clients * (many - few)
    each = [(long.cpu - short.cpu) / steps for short, long in pairs]
    rest = [short.cpu - clients * few * cost for (short, _), cost in zip(pairs, each, strict=True)]
    return {
        "name": way.name,
        "client_step": statistics.median(each),
        "least": min(each),
        "most": max(each),
        "rest": statistics.median(rest),
        "memory": statistics.median(long.memory for _, long in pairs),
        "repeats": len(pairs),
        "differs": way.differs,
    }


def page(told: dict[str, object], clients: int) -> str:
    rows = told["rows"]
    assert isinstance(rows, list)
    ours = next((row["client_step"] for row in rows if row["name"] == "zorba_ray" and "client_step" in row), None)
    lines = [
        "# Beside its peers", "",
        f"`{told['command']}`: {clients} clients, a small random OPT of 1.2 M numbers, float32, 8 texts of 18 tokens, "
        f"one two-point step a client and round. {told['machine']}. How it is measured: the head of the script.", "",
        "| | CPU a client-step | against zorba_ray | everything else, CPU | memory, most | what it does otherwise |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    for row in rows:
        if "why" in row:
            lines.append(f"| {row['name']} | – | – | – | – | {row['why']} |")
            continue
        span = f"{1000 * row['client_step']:.1f} ms [{1000 * row['least']:.1f} – {1000 * row['most']:.1f}]"
        ratio = f"{row['client_step'] / ours:.2f}" if ours else "–"
        lines.append(f"| {row['name']} | {span} | {ratio} | {row['rest']:.1f} s | {row['memory'] / 2**20:,.0f} MiB | "
                     f"{row['differs']} |")  # fmt: skip
    versions, count = told["versions"], rows[0].get("repeats", 0)
    assert isinstance(versions, list)
    lines += ["", f"Medians [least – most], n = {count}. {'; '.join(versions)}.", ""]
    return "\n".join(lines)


def cpu() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown processor"


if __name__ == "__main__":
    main()
