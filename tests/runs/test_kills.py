"""A run that is killed anywhere and resumed is the undisturbed run: its ledger, its totals and its records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from runs.toy_runs import ESTIMATED, outcome, run

from zorba_ray.ledger import LedgerWriter
from zorba_ray.records import stream
from zorba_ray.records.stream import RecordWriter
from zorba_ray.runs import bound, folder, plans, summary
from zorba_ray.runs.folder import Claim
from zorba_ray.runs.lock import Lock


class Killed(BaseException):
    """The process ends here: nothing is caught, nothing is cleaned up."""


class Bomb:
    """Counts writes to the disk, and ends the process after one of them."""

    def __init__(self, at: int):
        self.at, self.count = at, 0

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            result = write(*args, **kwargs)
            if self.count == self.at:
                raise Killed
            return result

        return written


def die(claim: Claim) -> None:
    """The kernel lets go of a lock; nobody removes a file."""
    claim.lock._file.close()


def arm(patch: pytest.MonkeyPatch, bomb: Bomb, every: int) -> None:
    write_whole = bomb.around(folder.write_whole)
    for module in (folder, bound, plans, summary):
        patch.setattr(module, "write_whole", write_whole)
    patch.setattr(LedgerWriter, "_write", bomb.around(LedgerWriter._write))
    for name in ("write_part", "remove"):
        patch.setattr(stream, name, bomb.around(getattr(stream, name)))
    patch.setattr(RecordWriter.__init__, "__defaults__", (every, 1e9, 100_000))
    for name in ("abandon", "release"):
        patch.setattr(Claim, name, die)


def killed(at: int, every: int, act: Callable[[], Any]) -> bool:
    """Whether the bomb went off."""
    with pytest.MonkeyPatch.context() as patch:
        arm(patch, Bomb(at), every)
        try:
            act()
        except Killed:
            return True
        return False


@pytest.mark.parametrize("every", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_a_run_killed_after_any_write_and_resumed_is_the_undisturbed_run(tmp_path: Path, every: int) -> None:
    run(tmp_path / "whole", *ESTIMATED)
    expected = outcome(tmp_path / "whole")
    assert any(row["status"] == "statistics" for row in expected[2])
    at = 1
    while killed(at, every, partial(run, tmp_path / f"{at}", *ESTIMATED)):
        place = tmp_path / f"{at}"
        begun = (place / folder.CONFIG).exists()
        run(place, *ESTIMATED, resume=begun)
        assert outcome(place) == expected, f"killed at write {at}"
        at += 1
    assert at > 15  # config, three files a plan, bound, header, rounds, records, summary


def test_killed_again_and_again_while_it_is_resumed(tmp_path: Path) -> None:
    run(tmp_path / "whole", *ESTIMATED)
    place, kills = tmp_path / "run", 0
    killed(9, 1, partial(run, place, *ESTIMATED))
    while killed(9, 1, partial(run, place, *ESTIMATED, resume=True)):  # what one round writes fits between two kills
        kills += 1
        assert kills < 8, "a resumed run does nothing again that was whole"
    assert kills > 1
    assert outcome(place) == outcome(tmp_path / "whole")


TESTS = str(Path(__file__).resolve().parents[1])  # where the helpers of tests are imported from
CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from runs.toy_runs import ESTIMATED, open_run
from zorba_ray.records.schema import RoundRecord
simulation = open_run(Path(sys.argv[1]), *ESTIMATED)
for event in simulation.events:
    if isinstance(event, RoundRecord) and event.round == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "run"
    child = subprocess.run([sys.executable, "-c", CHILD, str(place), TESTS], check=False)
    assert child.returncode == -signal.SIGKILL
    assert (place / "lock").exists()
    run(place, *ESTIMATED, resume=True)
    run(tmp_path / "whole", *ESTIMATED)
    assert outcome(place) == outcome(tmp_path / "whole")


HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from runs.toy_runs import open_run
simulation = open_run(Path(sys.argv[1]))
next(simulation.events)
print("running", flush=True)
sys.stdin.read()
for _ in simulation.events:
    pass
simulation.finish()
"""


@pytest.mark.slow
def test_a_living_run_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zorba_ray.commands.run import main

    place = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place), TESTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "running\n"
        before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
        assert main(["--resume", str(place)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"in use by process {holder.pid} on {os.uname().nodename} since 20" in error
        assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before
        holder.communicate("", timeout=120)
        assert holder.returncode == 0
    run(tmp_path / "whole")
    assert outcome(place) == outcome(tmp_path / "whole")
    assert not (place / "lock").exists()
    assert main(["--resume", str(place)]) == 0
    assert "is finished: 4 of 4 rounds" in capsys.readouterr().out
    assert (place / "report.html").is_file(), "which is all that was left to do"


def test_a_lock_is_free_once_its_holder_lets_go(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(folder.Held, match=rf"{tmp_path} is in use by process {os.getpid()} on "):
        Lock(tmp_path)
    lock.release()
    lock.release()
    Lock(tmp_path).release()
    assert not list(tmp_path.iterdir())
    dropped = Lock(tmp_path)
    del dropped
    Lock(tmp_path).release()


def test_a_lock_of_another_machine_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"host": "elsewhere", "pid": 7, "since": "2026-01-01 00:00:00"}')
    with pytest.raises(folder.Held, match=r"process 7 on elsewhere since 2026.*delete .*/lock and try again") as caught:
        Lock(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "lock").unlink()
    Lock(tmp_path).release()


def test_a_holder_whose_parent_was_killed_is_waited_for(tmp_path: Path) -> None:
    """As Ray's workers are, which outlive a killed command for a second or two."""
    hold = (
        "import sys, time; from pathlib import Path; from zorba_ray.runs.lock import Lock\n"
        f"lock = Lock(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(3)"
    )
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    parent = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "held\n"
    with pytest.raises(folder.Held):
        Lock(tmp_path)
    parent.kill()
    parent.wait()
    Lock(tmp_path).release()
