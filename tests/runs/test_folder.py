"""A run's folder: made at once and alone, whole again after damage, and never another run's."""

from __future__ import annotations

import datetime
import errno
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs.toy_runs import ESTIMATED, Toy, config_of, open_run, outcome, run

import zorba_ray
from zorba_ray.commands.replay import main as replay_command
from zorba_ray.commands.result import Result
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import file
from zorba_ray.methods import registry
from zorba_ray.records import stream
from zorba_ray.records.schema import RoundRecord
from zorba_ray.records.stream import FOLDER, parts
from zorba_ray.report.gather import read_run
from zorba_ray.runs import bound, folder, new
from zorba_ray.runs.folder import CONFIG, LEDGER, claim_new, make_folder
from zorba_ray.runs.resume import check_same, resumed_config
from zorba_ray.runs.summary import read_summary


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, its records in many parts; to be copied, never changed."""
    place = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream.RecordWriter.__init__, "__defaults__", (1, 1e9, 100_000))
        run(place, *ESTIMATED)
    assert len(parts(place)) > 4
    return place


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def one_line(caught: pytest.ExceptionInfo[ConfigError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_runs_that_start_together_have_folders_of_their_own(tmp_path: Path) -> None:
    wanted, made = tmp_path / "runs" / "run-1", []
    threads = [threading.Thread(target=lambda: made.append(make_folder(config_of(), wanted))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in made) == ["run-1", *(f"run-1-{n}" for n in range(2, 9))]


def test_a_driver_takes_the_next_name_where_another_run_lives_or_lies(tmp_path: Path) -> None:
    first = claim_new(config_of(), tmp_path / "run")
    second = claim_new(config_of(), tmp_path / "run")
    (first.folder / LEDGER).touch()
    first.release()
    third = claim_new(config_of(), tmp_path / "run")
    assert [each.folder.name for each in (first, second, third)] == ["run", "run-2", "run-3"]


def test_a_named_folder_is_taken_once(tmp_path: Path) -> None:
    config = config_of(f"out={tmp_path / 'run'}")
    claim = claim_new(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="is in use by process") as caught:
        claim_new(config, tmp_path / "run")
    one_line(caught)
    claim.abandon()
    assert not (tmp_path / "run").exists()
    claim_new(config, tmp_path / "run").abandon()


def test_a_clock_that_stands_or_jumps_back_gives_new_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime.datetime):
        times = iter([20, 20, 10, 20])

        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(2026, 1, 1, 0, 0, next(cls.times))

    monkeypatch.setattr(new, "datetime", Clock)
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(4):
        names.append(make_folder(config_of(), new.run_folder(config_of())).name)
        (tmp_path / "runs" / names[-1] / LEDGER).touch()
    assert names == [f"run-20260101-0000{end}" for end in ("20", "20-2", "10", "20-3")]


@pytest.mark.parametrize("kind", ["file", "read only"])
def test_an_out_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("")
    else:
        out.mkdir()
        monkeypatch.setattr(folder.os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ConfigError, match=rf"cannot write to {out}: .*; choose another `out`") as caught:
        make_folder(config_of(f"out={out}"), out)
    one_line(caught)


@pytest.mark.parametrize("harm", ["missing", "truncated", "changed"])
@pytest.mark.parametrize(("kind", "which"), [("clients", 0), ("clients", 3), ("evaluations", 1), ("rounds", 2)])
def test_damaged_records_are_named_and_their_rounds_done_again(
    copy: Path, whole: Path, harm: str, kind: str, which: int
) -> None:
    part = [part for part in parts(copy) if part.kind == kind][which]
    content = part.path.read_bytes()
    if harm == "missing":
        part.path.unlink()
    elif harm == "truncated":
        part.path.write_bytes(content[: len(content) // 2])
    else:
        part.path.write_bytes(content[:60] + bytes([content[60] ^ 255]) + content[61:])
    notes = run(copy, *ESTIMATED, resume=True).notes
    assert any("are done again" in note and (harm == "missing" or part.name in note) for note in notes)
    assert outcome(copy) == outcome(whole)


def test_records_without_their_ledger_are_not_thrown_away(copy: Path) -> None:
    (copy / LEDGER).unlink()
    before = [part.path.read_bytes() for part in parts(copy)]
    with pytest.raises(ConfigError, match=r"has records but no ledger\.jsonl") as caught:
        run(copy, *ESTIMATED, resume=True)
    one_line(caught)
    assert [part.path.read_bytes() for part in parts(copy)] == before


@pytest.mark.parametrize(
    ("now", "key"), [("step.lr=0.03", r"step\.lr was 0\.003 .* is now 0\.03"), ("seed=4", "seed"), ("zo.mu=2e-3", "mu")]
)
def test_a_run_keeps_what_decides_its_ledger(copy: Path, now: str, key: str) -> None:
    before = (copy / LEDGER).read_bytes()
    (copy / CONFIG).write_text(folder.to_yaml(config_of(*ESTIMATED, now)))
    with pytest.raises(ConfigError, match=key) as caught:
        resumed_config(copy)
    one_line(caught)
    with pytest.raises(ConfigError, match=key):
        run(copy, *ESTIMATED, now, resume=True)
    assert (copy / LEDGER).read_bytes() == before


def test_what_decides_no_line_may_change(copy: Path) -> None:
    now = ["name=other", "rounds=6", "placement=cohort", "runtime.threads=2", "guard.loss_multiple=50"]
    (copy / CONFIG).write_text(folder.to_yaml(config_of(*ESTIMATED, *now)))
    assert resumed_config(copy).rounds == 6
    before = (copy / LEDGER).read_bytes()
    assert run(copy, *ESTIMATED, *now, resume=True).rounds_done == 6
    assert (copy / LEDGER).read_bytes().startswith(before)


def test_fewer_rounds_than_are_done_are_refused(copy: Path) -> None:
    (copy / CONFIG).write_text(folder.to_yaml(config_of(*ESTIMATED, "rounds=3")))
    with pytest.raises(ConfigError, match="rounds is 3, and 4 are done") as caught:
        resumed_config(copy)
    one_line(caught)


def test_an_edited_binding_is_refused(copy: Path) -> None:
    body = json.loads((copy / bound.FILE).read_text())
    body["keys"]["step.lr"] = 0.03
    (copy / bound.FILE).write_text(json.dumps(body))
    (copy / CONFIG).write_text(folder.to_yaml(config_of(*ESTIMATED, "step.lr=0.03")))
    with pytest.raises(ConfigError, match=r"bound\.json does not belong to the ledger beside it"):
        resumed_config(copy)


def test_a_users_method_is_kept_bound_and_asked_for(tmp_path: Path) -> None:
    own, place = tmp_path / "mine.py", tmp_path / "run"
    own.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    mine = f"method_file={own}"
    run(place, mine, "rounds=2")
    assert (place / bound.METHOD_FILE).read_text() == own.read_text()
    (tmp_path / "ran").unlink()
    registry._read.clear()  # as in another process
    with pytest.raises(ConfigError, match=r"method_file=.*mine\.py; look at it, then say --trust-code") as caught:
        resumed_config(place)
    one_line(caught)
    doors: list[Callable[[Path], object]] = [
        read_run, Result, lambda folder: check_same(config_of(), folder), zorba_ray.open_run, zorba_ray.replay,
        zorba_ray.verify, zorba_ray.evaluate, lambda folder: zorba_ray.audit(folder, 0, 0),
        lambda folder: zorba_ray.diff(folder, folder), lambda folder: zorba_ray.run(resume=folder, backend="local"),
    ]  # fmt: skip
    for ask in doors:
        with pytest.raises(ConfigError, match="look at it, then say --trust-code"):
            ask(place)
    assert replay_command([str(place), "--verify"]) == 2 and not (tmp_path / "ran").exists(), "nothing of it has run"
    assert replay_command([str(place), "--verify", "--trust-code"]) in (0, 1) and (tmp_path / "ran").exists()
    assert resumed_config(place, trusted=True).method_file == str(own)
    registry._read.clear()
    opened = zorba_ray.open_run(place, trust_code=True)
    registry._read.clear()
    assert len(zorba_ray.verify(opened).checks) == len(zorba_ray.verify(place, trust_code=True).checks) > 1
    own.write_text("# not as zorba\n")
    with pytest.raises(ConfigError, match=r"mine\.py is not the one that the run was begun with"):
        resumed_config(place, trusted=True)
    own.unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*the run kept a copy, .*method_file\.py"):
        resumed_config(place, trusted=True)


def test_a_dead_runtime_costs_only_the_digest(tmp_path: Path, whole: Path) -> None:
    simulation = open_run(tmp_path / "run", *ESTIMATED)
    for event in simulation.events:
        if isinstance(event, RoundRecord) and event.round == 2:
            break

    def dead() -> str:
        raise RuntimeError("all actors are gone\nlong story")

    simulation.backend.digest = dead  # type: ignore[method-assign]
    reported = []
    simulation.finish(stopped="the pool died", report=reported.append)
    summary = read_summary(tmp_path / "run")
    assert summary.rounds_done == 3 and summary.model_sha256 == "" and reported == [tmp_path / "run"]
    assert any("digest is not known (all actors are gone)" in note for note in summary.notes)
    run(tmp_path / "run", *ESTIMATED, resume=True)
    assert outcome(tmp_path / "run") == outcome(whole)


def test_a_full_disk_is_one_line_and_loses_nothing(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = stream.pq.write_table, [1]

    def full(rows: Any, file: Any, **options: Any) -> None:
        write(rows, file, **options)
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stream.pq, "write_table", full)
    monkeypatch.setattr(stream.RecordWriter.__init__, "__defaults__", (1, 1e9, 100_000))
    simulation = open_run(tmp_path / "run", *ESTIMATED)
    message = r"cannot write to .*No space left on device.*--resume"
    with pytest.raises(ConfigError, match=message) as caught:
        while simulation.advance():
            pass
    one_line(caught)
    with pytest.raises(ConfigError, match=message):
        simulation.finish(stopped=str(caught.value))
    assert not list((tmp_path / "run" / FOLDER).rglob(".*"))
    monkeypatch.undo()
    run(tmp_path / "run", *ESTIMATED, resume=True)
    assert outcome(tmp_path / "run") == outcome(whole)


def test_going_on_reads_ledger_and_records_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of ten thousand rounds has much of both."""
    seen: Counter[str] = Counter()

    def counted(read: Any) -> Any:
        def reading(path: Path, *rest: Any, **options: Any) -> Any:
            seen[str(path)] += 1
            return read(path, *rest, **options)

        return reading

    monkeypatch.setattr(file, "_sealed_lines", counted(file._sealed_lines))
    monkeypatch.setattr(stream.pq, "read_table", counted(stream.pq.read_table))
    simulation = open_run(copy, *ESTIMATED, "rounds=6", resume=True)
    assert all(seen[str(path)] == 1 for path in (copy / LEDGER, *(part.path for part in parts(copy))))
    assert next(simulation.events)
    simulation.finish()


def test_a_mistake_found_while_preparing_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Toy, config: Config) -> Any:
        assert (tmp_path / "run" / CONFIG).exists()
        raise ConfigError("there is no such model")

    monkeypatch.setattr(Toy, "read", read)
    with pytest.raises(ConfigError, match="no such model"):
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
