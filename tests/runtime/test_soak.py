"""Runs of all kinds, killed at random moments and gone on with: in the end they are the undisturbed run.

ZORBA_SOAK says how many (4); every one is a case of the kept ledgers, of another method, world or placement. What kills
it, when and whom, follows from its number, so a failure is done again by its number: ZORBA_SOAK=17:18.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import sessions
from house.kept_ledgers import kept
from runs.toy_runs import outcome

from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import CONFIG, LEDGER
from zorba_ray.runs.simulate import Here, simulate

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FIRST, _, END = os.environ.get("ZORBA_SOAK", "4").rpartition(":")
NUMBERS = range(int(FIRST or 0), int(END))
ROUNDS = 12
LONGER = [f"rounds={ROUNDS}", "evaluation.every=5", "evaluation.examples=16", "checkpoint.every=3", "stop.flops=0"]
PLACEMENTS = [["--local"], ["placement=cohort", "runtime.actors=2"], ["placement=per_client", "runtime.actors=2"]]
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
VICTIMS = {"front end": "", "driver": "ray::Driver", "client": "ray::ClientActor", "raylet": "raylet/raylet"}
STARTING = 8.0  # seconds that a run takes to its first round, about
PATIENCE = 150.0  # seconds for a sitting to end


@dataclass(frozen=True)
class Strike:
    """Whom, with what, and when: so many seconds after the start, or after the ledger has so many entries."""

    victim: str
    number: signal.Signals
    entries: int
    seconds: float

    def __str__(self) -> str:
        when = f"at round {self.entries} + " if self.entries >= 0 else "after "
        return f"{self.number.name} to {self.victim} {when}{self.seconds:.2f} s"


@dataclass(frozen=True)
class Plan:
    """Of one run."""

    number: int
    name: str  # of the case
    line: list[str]  # arguments that decide results
    where: list[str]
    strikes: list[Strike]

    def __str__(self) -> str:
        return f"run {self.number}, {self.name}, {' '.join(self.where)}: {'; '.join(map(str, self.strikes))}"


def plan_of(number: int) -> Plan:
    """Placements take turns; a run without Ray has nobody but the front end."""
    draw = np.random.default_rng(number)
    cases = {name: case for name, case in kept()[1].items() if name != "default" and not case.on_ray}
    name = str(draw.choice(list(cases)))
    where = PLACEMENTS[(number + 1) % len(PLACEMENTS)]
    victims = ["front end"] if where == ["--local"] else list(VICTIMS)
    strikes = []
    for _ in range(draw.integers(1, 4)):
        moment, entries, seconds = draw.random(), -1, draw.uniform(0.5, STARTING)
        if moment > 0.3:
            entries, seconds = int(draw.integers(0, ROUNDS)), draw.uniform(0, 0.1)
        if moment > 0.85:  # summary, digest and report
            entries, seconds = ROUNDS, draw.uniform(0, 2)
        strikes.append(Strike(str(draw.choice(victims)), SIGNALS[draw.integers(3)], entries, seconds))
    strikes.sort(key=lambda strike: strike.entries)
    return Plan(number, name, [*cases[name].presets, *cases[name].set, *LONGER], where, strikes)


class Sitting:
    """The command, from its start to its end, in a session of its own."""

    def __init__(self, folder: Path, arguments: list[str]):
        self.ledger, self.log = folder / LEDGER, tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.started, self.before = time.monotonic(), entries(self.ledger)
        line = [sys.executable, "-m", "zorba_ray.run", *arguments]
        self.process = sessions.start(line, self.log)

    @property
    def clock(self) -> str:
        return f"after {time.monotonic() - self.started:.1f} s"

    def comes_to(self, strike: Strike) -> bool:
        """Wait for the moment; False where the sitting ended before."""
        since = self.started if strike.entries < 0 else None
        while self.process.poll() is None:
            if since is None and entries(self.ledger) >= strike.entries:
                since = time.monotonic()
            if since is not None and time.monotonic() - since >= strike.seconds:
                return True
            if time.monotonic() - self.started > PATIENCE:
                return False
            time.sleep(0.005)
        return False

    def suffer(self, strike: Strike, draw: np.random.Generator) -> str:
        """Whom it hit: who is not there yet, or no longer, is spared, and the front end is not."""
        found = [each for each in self.members() if VICTIMS[strike.victim] in name_of(each)]
        if strike.victim == "front end" or not found:
            self.process.send_signal(strike.number)
            return "front end"
        with suppress(psutil.NoSuchProcess):
            found[draw.integers(len(found))].send_signal(strike.number)
        return strike.victim

    def end(self) -> tuple[int, str]:
        """Exit status, -1000 where it did not end; output."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            status = -1000
        self.log.seek(0)
        return status, self.log.read()

    def members(self) -> list[psutil.Process]:
        return sessions.members(self.process.pid)

    def left(self) -> list[str]:
        """Who of ours is still there a while after the end; all are ended here (agents of Ray outlive a killed one by
        minutes)."""
        until = time.monotonic() + 60
        while (found := [name_of(each) for each in self.members() if is_ours(each)]) and time.monotonic() < until:
            time.sleep(0.1)
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return found


def name_of(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""


def is_ours(process: psutil.Process) -> bool:
    return any(each and each in name_of(process) for each in (sys.executable, *VICTIMS.values()))


def entries(ledger: Path) -> int:
    """Whole lines but for the header; −1 without one."""
    try:
        return ledger.read_bytes().count(b"\n") - 1
    except OSError:
        return -1


@dataclass
class Soak:
    """A run on its way through its strikes; `wrong` is what should not have been."""

    plan: Plan
    folder: Path
    kills: int = 0
    sittings: list[Sitting] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def live(self) -> None:
        """Sitting after sitting, each begun as soon as the one before has ended."""
        draw, strikes = np.random.default_rng(self.plan.number), list(self.plan.strikes)
        while True:
            sitting = Sitting(self.folder, self.arguments(draw))
            self.sittings.append(sitting)
            hit = ""
            number: signal.Signals = SIGNALS[0]
            while strikes and hit in ("", "client"):
                if not sitting.comes_to(strikes[0]):
                    break
                strike = strikes.pop(0)
                hit, number = sitting.suffer(strike, draw), strike.number
                self.kills += 1
                self.story.append(f"{sitting.clock}: {strike.number.name} to {hit}, {entries(sitting.ledger)} entries")
            status, output = sitting.end()
            self.story.append(f"{sitting.clock}: status {status}\n{output}")
            self.judge(sitting, hit, number, status, output)
            if status == 0 or self.wrong:
                return

    def arguments(self, draw: np.random.Generator) -> list[str]:
        """As a job scheduler would, the same line again; or as somebody would who reads the last one."""
        if (self.folder / CONFIG).exists() and draw.random() < 0.5:
            return ["--resume", str(self.folder), *self.plan.where]
        return [*self.plan.line, *self.plan.where, "--resume-or-start", str(self.folder)]

    def judge(self, sitting: Sitting, hit: str, number: signal.Signals, status: int, output: str) -> None:
        """What a sitting says at its end, by what hit it last."""
        if status == -1000:
            self.wrong.append("it did not end")
        if "Traceback" in output or "SIGTERM received" in output:
            self.wrong.append("it ended with a traceback")
        if status == 0:
            return
        expected = {"": [0], "client": [0], "front end": [128 + number, -number]}.get(hit, [2])
        if status not in expected:
            self.wrong.append(f"status {status} after {number.name} to {hit or 'nobody'}, not {expected}")
        last = (output.strip().splitlines() or [""])[-1]
        now = entries(sitting.ledger)
        nothing = now < 0 or (now == sitting.before and last == "zorba_ray: stopped. Nothing was begun.")
        if status != -number and not nothing and f"--resume {self.folder}" not in last:
            self.wrong.append(f"the last line does not say how to go on: {last!r}")

    def compare(self, whole: Path) -> None:
        if self.wrong:
            return
        kinds = ("ledger", "totals", "records")
        for what, ours, theirs in zip(kinds, outcome(self.folder), outcome(whole), strict=True):
            if isinstance(ours, dict):
                ours["placement"] = theirs["placement"]
                for totals in (ours, theirs):  # the undisturbed run is in this process
                    totals["environment"].pop("actors", None)
            if repr(ours) != repr(theirs):  # NaN is NaN
                self.wrong.append(f"{what} differ: {difference(ours, theirs)}")
        if not (self.folder / "report.html").is_file():
            self.wrong.append("there is no report")
        names = [path.name for path in self.folder.rglob("*")]
        if strays := [name for name in names if name in ("lock", "ray.json") or name.endswith(".tmp")]:
            self.wrong.append(f"left in the folder: {strays}")


def difference(ours: Any, theirs: Any) -> str:
    """The first few places where two outcomes are not the same."""
    if isinstance(ours, bytes):
        return f"{len(ours.splitlines())} and {len(theirs.splitlines())} lines"
    if isinstance(ours, dict):
        names = [name for name in ours if repr(ours[name]) != repr(theirs[name])]
        return json.dumps({name: (ours[name], theirs[name]) for name in names}, default=str)
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if repr(a) != repr(b)]
    some = "; ".join(f"{difference(a, b)} in {a['kind']} of round {a['round']}" for a, b in pairs[:3])
    return f"{len(ours)} and {len(theirs)} rows, {len(pairs)} differ: {some}"


@pytest.mark.timeout(60 + 200 * len(NUMBERS))
def test_runs_that_are_killed_and_gone_on_with_are_the_undisturbed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures, kills, started = [], 0, time.monotonic()
    for number in NUMBERS:
        plan, began = plan_of(number), time.monotonic()
        files = [each for each in plan.line if "=" not in each]
        keys = [each for each in plan.line if "=" in each]
        simulate(load_config(files[0] if files else None, keys, files[1:]), tmp_path / f"{number}-whole", Here())
        soak = Soak(plan, tmp_path / f"{number}")
        soak.live()
        if left := [name for sitting in soak.sittings for name in sitting.left()]:
            soak.wrong.append(f"still there a minute later: {left}")
        soak.compare(tmp_path / f"{number}-whole")
        kills += soak.kills
        with capsys.disabled():
            verdict = "; ".join(soak.wrong) or "the same"
            print(f"\n{plan}\n  {time.monotonic() - began:.0f} s: {verdict}", end="", flush=True)
        if soak.wrong:
            failures.append("\n".join([str(plan), *soak.wrong, *soak.story]))
    with capsys.disabled():
        print(f"\n{len(NUMBERS)} runs, {kills} kills, {len(failures)} failures, {time.monotonic() - started:.0f} s")
    assert not failures, "\n\n".join(failures)
