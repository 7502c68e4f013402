"""Who took part and what became of it; plans that change; who has which data; what it cost to get there."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report.test_report import Page, page

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.shipped import files_in
from zorba_ray.config.units import format_bytes
from zorba_ray.records.schema import ClientRecord, RoundRecord
from zorba_ray.records.stream import FOLDER, RecordWriter
from zorba_ray.report import again, curves
from zorba_ray.report.changes import table_of
from zorba_ray.report.curves import Series, read_curves
from zorba_ray.report.fleet import AWAY, CLOSE, COUNTED, DROPPED, LATE, LEFT_OUT, busiest, pictures, read_fleet
from zorba_ray.report.gather import read_run
from zorba_ray.report.runs_page import write_comparison
from zorba_ray.report.targets import table_of as cost_table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.dealt import dealt_to, read_dealt, write_dealt
from zorba_ray.runs.source import source_state

MakeRun = Callable[..., Path]
SHORT = {"rounds": 20, "reporting": 20, "blocks": 3}


@pytest.fixture(autouse=True)
def few_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves have tests of their own."""
    monkeypatch.setattr(curves, "AXES", curves.AXES[:1])
    monkeypatch.setattr(curves, "METRICS", curves.METRICS[:1])


def records(folder: Path, statuses: list[dict[int, tuple[str, float | None]]], length: float = 1.0) -> None:
    """A round for each entry: what became of its clients, and when."""
    with RecordWriter(folder / FOLDER) as writer:
        for t, round in enumerate(statuses):
            writer.add([RoundRecord(t, 0.5, 0.01, len(round), 0, 0, 0.1, 0.1, 0.0, 1.0,
                                    virtual_seconds=length * (t + 1))])  # fmt: skip
            writer.add([
                ClientRecord(t, n, "all", 9, 8, 1, 2, 0.5, [0.5], 0.5, 0.0, 3, 1e6, 4, 4, 0.1, status,
                             virtual_seconds=seconds)
                for n, (status, seconds) in round.items()
            ])  # fmt: skip


def test_states_are_those_of_the_records(tmp_path: Path) -> None:
    told = [
        {0: ("ok", 0.25), 1: ("ok", 0.75), 2: ("late", 1.5)},
        {0: ("ok", 0.5), 1: ("dropped", None), 3: ("nan", 0.5)},
        dict.fromkeys(range(5), ("statistics", None)) | {4: ("out_of_memory", 0.1)},
    ]  # fmt: skip
    records(tmp_path, told)
    rounds = {"round": np.arange(3), "virtual_seconds": np.array([1.0, 2.0, 3.0])}
    fleet = read_fleet(tmp_path, rounds, clients=5)
    assert fleet.states.tolist() == [[2, 1, 0, 0, 2], [1, 0, 1, 1, 2], [0, 0, 0, 1, 4]]
    assert fleet.busy.tolist() == [0.5, 0.5, 0.0] and fleet.clock and fleet.eventful
    assert fleet.idle == pytest.approx(1 - (0.5 + 0.5 + 0) / 3)
    assert [(each.status, each.records, each.clients) for each in fleet.troubles] == [
        ("dropped", 1, (1,)), ("late", 1, (2,)), ("nan", 1, (3,)), ("out_of_memory", 1, (4,)),
    ]  # fmt: skip
    assert {n: states.tolist() for n, states, _ in fleet.rows} == {
        0: [COUNTED, COUNTED, AWAY], 1: [COUNTED, DROPPED, AWAY], 2: [LATE, AWAY, AWAY], 3: [AWAY, LEFT_OUT, AWAY],
        4: [AWAY, AWAY, LEFT_OUT],
    }  # fmt: skip
    overview, close = pictures(fleet)
    assert overview.data["late"] == [1, 0, 0] and overview.data["away"] == [2, 2, 4]
    bars = list(zip(*(close.data[name] for name in ("client", "round", "from", "until")), strict=True))
    assert (1, 0, 0.0, 0.75) in bars and (2, 0, 0.0, 1.5) in bars and (0, 1, 1.0, 1.5) in bars
    assert "Client 2, round 1: late after 1.5 s of 1.0 s" in [said for _, _, said in close.values]


def test_the_stretch_that_is_drawn_is_the_one_in_which_most_went_wrong() -> None:
    states = np.zeros((50, 5), dtype=np.int64)
    assert busiest(states) == (0, CLOSE) and busiest(states[:3]) == (0, 3) and busiest(states[:0]) == (0, 0)
    states[40, LATE] = 3
    assert busiest(states) == (40 - CLOSE + 1, 41)


def test_a_page_shows_the_fleet_where_there_is_something_to_see(run_folder: MakeRun) -> None:
    folder = run_folder(["clients.count=25"], **SHORT)
    seen = page(folder)
    assert "Chosen in a round 20 of 25 clients" in seen.text and "Some clients one by one" in seen.text
    run = read_run(folder)
    assert (run.fleet.states[:, AWAY] == 5).all() and not run.fleet.clock and not run.fleet.troubles


def test_a_plan_made_anew_is_shown_beside_the_first(run_folder: MakeRun) -> None:
    folder = run_folder(**SHORT)
    assert "made anew" not in page(folder).text
    first = read_run(folder).plan
    flipped = dataclasses.replace(first, matrix=~first.matrix)
    (folder / "allocation-000010.json").write_text(json.dumps(flipped.to_json()))
    seen, run = page(folder), read_run(folder)
    assert "The plan was made anew 1 times" in seen.text
    assert [(row[0], row[3]) for row in table_of(run.plans)[1]] == [("1", "–"), ("11", "100.0 %")]


def test_who_has_which_data_is_kept_and_shown(run_folder: MakeRun) -> None:
    labels = np.array([0, 1, 0, 1, 1, 2])
    dealt = dealt_to(["a", "b", "<c>"], labels, [np.array([0, 2]), np.array([1, 3, 4, 5])])
    assert dealt.counts.tolist() == [[2, 0, 0], [0, 3, 1]] and dealt.sizes.tolist() == [2, 4]
    assert dealt.skew == pytest.approx((2 * 2 / 3 + 4 * 1 / 3) / 6)
    folder = run_folder(**SHORT)
    assert "Dealt out" not in page(folder).text and read_dealt(folder) is None
    write_dealt(dealt, folder)
    kept = read_dealt(folder)
    assert kept is not None and kept.labels == dealt.labels and (kept.counts == dealt.counts).all()
    assert "2 to 4 training examples a client" in page(folder).text
    (folder / "dealt.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"dealt\.json is damaged"):
        page(folder)


def test_costs_to_a_target_are_those_where_it_was_first_reached(run_folder: MakeRun, tmp_path: Path) -> None:
    """Accuracies of the made-up run: 53, 73, 93 % after 0, 10, 20 rounds."""
    folder = run_folder(**SHORT)
    head, rows = cost_table([Series("x", [read_curves(folder)])], [0.6, 0.99])
    assert head == ["Test accuracy", "Rounds", "Forward FLOPs", "Bytes", "Seconds here"]
    assert [row[:2] for row in rows] == [["60.0 %", "10"], ["73.0 %", "10"], ["89.0 %", "20"], ["99.0 %", "–"]]
    assert rows[0][3] == rows[1][3] == format_bytes(10 * 20 * (16 + 96)) and rows[3][2:] == ["–"] * 3
    path, _ = write_comparison([folder, run_folder(["seed=1"], **SHORT)], tmp_path / "page.html")
    assert "73.0 % all runs (n = 2) 2 of 2 10" in Page(path.read_text(encoding="utf-8")).text


@pytest.mark.parametrize("path", [*files_in(""), *files_in("methods")], ids=lambda path: path.stem)
def test_the_line_on_a_page_is_the_same_config(path: Path) -> None:
    classes = "clients.budgets.classes=[{name: 'a b', share: 1, budget: 3 MiB}]"
    config = load_config(path, [classes, "clients.budgets.median=", "clients.budgets.explicit=[]", "seed=7", "out=x"])
    line = shlex.split(again.line(config))
    assert line[:3] == ["python", "-m", "zorba_ray.run"]
    assert load_config(None, line[3:]) == dataclasses.replace(config, out="")


def test_a_page_says_from_which_source_and_with_what_the_run_was(run_folder: MakeRun) -> None:
    folder = run_folder(**SHORT)
    run = read_run(folder)
    commit = source_state()
    assert run.summary.environment.get("commit", "") == commit
    seen = page(folder).text
    assert (f"git commit {commit.split()[0]}" if commit else "installed, or of a commit") in seen
    libraries = run.summary.environment["libraries"]
    assert f"torch=={libraries['torch'].partition('+')[0]}" in seen and f"ray=={libraries['ray']}" in seen
    assert again.line(run.config) in seen
