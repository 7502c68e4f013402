from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.commands import report as command
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import flops
from zorba_ray.records.stream import table
from zorba_ray.report import curves, figures
from zorba_ray.report.gather import read_run
from zorba_ray.report.pictures import Picture, inline
from zorba_ray.report.run_page import write_report
from zorba_ray.runs.memory import ClassMemory, write_memory

MakeRun = Callable[..., Path]
MIB = 2**20
VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that tags match, and collects text, ids and whatever would be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data") and value and value[0] != "#":
                self.fetched.append(value)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(autouse=True)
def one_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves have tests of their own; here one cost is enough."""
    monkeypatch.setattr(curves, "AXES", curves.AXES[:1])


def page(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_the_report_says_what_came_out(run_folder: MakeRun) -> None:
    folder = run_folder()
    seen = page(folder)
    run = read_run(folder)
    for text in ("93.0 %", "+40.0 points from 53.0 %", run.summary.ledger_sha256, run.summary.model_sha256, "complete",
                 "small", "medium", "large", "2.31", "1.30 %", "python -m zorba_ray.replay", "Sent up"):  # fmt: skip
        assert text in seen.text, text
    assert seen.tags.count("svg") == 5 + 3  # of them panels of curves
    assert "All 20 clients took part in every round" in seen.text and "What it cost to get there" in seen.text
    assert "batch: 8" in seen.text and "numpy" in seen.text  # config and environment
    assert "--resume" not in seen.text


def test_what_clients_hold_stands_class_by_class_with_what_was_measured(run_folder: MakeRun) -> None:
    parts = {"weights": 3, "active": 5, "hidden": 7, "workspace": 11, "context": 13}
    rows = [
        ClassMemory("zorba", name, 4, 2, 99 * MIB, 39 * MIB, 41 * MIB, {p: n * MIB for p, n in parts.items()}, 60 * MIB,
                    17 * MIB, {"in-place": 0.25})
        for name in ("small", "medium", "large")
    ]  # fmt: skip
    assert "was not traced" in page(run_folder()).text
    for measured in (None, 43 * MIB):
        folder = run_folder(measured=measured)
        write_memory(rows, folder)
        assert list(read_run(folder).memory.values()) == rows
        seen = page(folder).text
        lines = [f"{part.capitalize()} {format_bytes(n * MIB)} {format_bytes(n * MIB)}" for part, n in parts.items()]
        lines += ["Traced 41.0 MiB 41.0 MiB 41.0 MiB", "Bus, a round 17.0 MiB", "Saves against in-place +25.0 %"]
        for line in lines:
            assert line in seen, line
        assert ("Measured, reserved 43.0 MiB 43.0 MiB" in seen) == ("Measured, allocated 42.0 MiB" in seen) == bool(
            measured
        )
    (folder / "memory.json").write_text("[3]")
    with pytest.raises(ConfigError, match=r"memory\.json is damaged"):
        write_report(folder)


def test_the_report_needs_nothing_but_itself(run_folder: MakeRun) -> None:
    for folder in (run_folder(), run_folder(["clients.count=300"])):
        seen = page(folder)
        assert all(link.startswith("data:image/png;base64,") for link in seen.fetched)
        assert "script" not in seen.tags and "link" not in seen.tags
        html = (folder / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"@import|url\((?!#)", html)
        assert set(re.findall(r"https?://[\w.]+", html)) <= {"http://www.w3.org"}  # names of XML's namespaces
        assert len(set(seen.ids)) == len(seen.ids)
        pictures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
        assert not re.search(r"#[0-9a-f]{6}", pictures)  # all colours are the page's, so that they follow its theme


def test_text_of_users_is_only_text(run_folder: MakeRun) -> None:
    bad = "<script>alert(1)</script> & $x^{$"
    classes = f"clients.budgets.classes=[{{name: '{bad}', budget: 1 MiB}}]"
    folder = run_folder([f"name={bad}", f"task.prompt={bad}", classes], notes=[bad])
    seen = page(folder)
    assert "script" not in seen.tags
    assert seen.text.count(bad) >= 4


def test_the_same_folder_gives_the_same_bytes(run_folder: MakeRun) -> None:
    folder = run_folder()
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_an_interrupted_run_says_how_to_go_on(run_folder: MakeRun) -> None:
    folder = run_folder(["rounds=100"], rounds=30)
    seen = page(folder)
    assert "interrupted" in seen.text and "30 of 100" in seen.text
    assert f"python -m zorba_ray.run --resume '{folder}'" in seen.text


@pytest.mark.parametrize("rounds", [0, 1])
def test_very_short_runs_have_reports(run_folder: MakeRun, rounds: int) -> None:
    seen = page(run_folder(["rounds=50"], rounds=rounds, blocks=1))
    assert ("No round was finished" in seen.text) == (rounds == 0)


@pytest.mark.parametrize("plan", ["full", "cyclic"])
def test_plans_that_no_program_made_have_reports(run_folder: MakeRun, plan: str) -> None:
    seen = page(run_folder([f"allocation.plan={plan}"], solved=False))
    assert f"chosen by {plan}" in seen.text and "In the plan" in seen.text and "Gap" not in seen.text


def test_ten_thousand_clients_fit_on_a_page(run_folder: MakeRun) -> None:
    overrides = ["clients.count=10000", "clients.budgets.median=8 GiB", "participation.clients=50"]
    folder = run_folder(overrides, blocks=24, rounds=12, reporting=50)
    seen = page(folder)
    assert (folder / "report.html").stat().st_size < 600_000
    assert "1,000 clients" in seen.text  # ten levels of equal share
    assert sum(len(each.members) for each in read_run(folder).classes) == 10_000


def test_class_rows_add_up_to_the_records(run_folder: MakeRun) -> None:
    folder = run_folder(rounds=25)
    run, records = read_run(folder), table(folder).to_pandas()
    clients = records[records.kind == "client"]
    assert sum(each.reports for each in run.classes) == len(clients) == 25 * 20
    for each in run.classes:
        rows = clients[clients.budget_class == each.name]
        assert each.sums["loss"] == pytest.approx(rows.loss.sum())
        assert each.sums["bytes_down"] == rows.bytes_down.sum()
        assert each.predicted_most == pytest.approx(rows.predicted_bytes.max(), abs=1)
        assert each.budget == rows.budget_bytes.min()
    assert [each.budget for each in run.classes] == sorted(each.budget for each in run.classes)
    np.testing.assert_array_equal(run.rounds["round"], np.arange(25))
    assert run.scalars_count == 25 * 20 * 4 == len(run.scalars)


def test_the_map_of_few_clients_has_one_cell_each_in_its_own_colour() -> None:
    matrix = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=bool)
    groups = [("a", np.array([0, 2])), ("b", np.array([1]))]
    svg = inline(Picture("map", lambda: figures.allocation_map(matrix, groups, ["x", "y", "z"]), {}))
    ET.fromstring(svg)
    cells = re.findall(r"fill: var\(--(accent|empty)\)", svg)
    assert cells.count("accent") == matrix.sum() and cells.count("empty") == (~matrix).sum()


def test_rows_of_an_image_are_shares_of_clients() -> None:
    part = np.zeros((1000, 2), dtype=bool)
    part[:, 0] = True
    axes = figures.Figure().subplots()
    figures.draw_image(axes, part, 0.0, 50.0)
    image = axes.images[0].get_array()
    assert image is not None and image.shape == (50, 2, 4)
    assert (image[:, 0, 3] == 255).all() and (image[:, 1, 3] == 26).all()  # a tenth: not active, yet a client


def test_block_names_are_thinned_where_they_are_tight() -> None:
    assert figures.block_ticks(["stem", "block 0", "head"]) == ([0, 1, 2], ["stem", "block 0", "head"])


@given(layers=st.integers(1, 400), ends=st.booleans())
def test_as_many_block_names_as_fit_stand_at_their_places(layers: int, ends: bool) -> None:
    blocks = [*(["stem"] if ends else []), *(f"block {i}" for i in range(layers)), *(["head"] if ends else [])]
    places, names = figures.block_ticks(blocks)
    step = len(blocks) if len(places) == 1 else places[1] - places[0]
    assert places == list(range(0, len(blocks), step))
    assert all(blocks[place] in (name, f"block {name}") for place, name in zip(places, names, strict=True))
    room = max(len(name.removeprefix("block ")) for name in blocks) + 2
    assert len(names) == len(blocks) or sum(len(name) + 2 for name in names) <= figures.CHARACTERS + room
    assert step == 1 or room * len(blocks) > (step - 1) * figures.CHARACTERS, "no more are left out than must be"


def test_smoothing_keeps_length_and_level_over_gaps() -> None:
    assert (figures.smooth(np.ones(500)) == pytest.approx(1.0)) and len(figures.smooth(np.ones(3))) == 3
    noisy = np.tile([0.0, 2.0], 200)
    assert np.abs(figures.smooth(noisy)[20:-20] - 1).max() < 0.1
    gap = np.ones(400)
    gap[200] = np.nan
    assert (figures.smooth(gap) == 1).all()
    assert np.isnan(figures.smooth(np.full(5, np.inf))).all()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 FLOP"), (999, "999 FLOP"), (1e3, "1 KFLOP"), (1.54e12, "1.54 TFLOP"), (999.9e9, "1 TFLOP")],
)
def test_flops(count: float, text: str) -> None:
    assert flops(count) == text


def test_the_command_makes_the_report_again(run_folder: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder()
    assert command.main([str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").exists()
    assert command.main(["--help"]) == 0
    assert "Usage: zorba-ray report [RUN …]" in capsys.readouterr().out


def test_what_is_not_a_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], [str(tmp_path)], ["a", "b"], ["--nonsense"]):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("zorba_ray: ") and error.count("\n") == 1
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        write_report(tmp_path)


def test_a_folder_without_its_allocation_is_refused(run_folder: MakeRun) -> None:
    folder = run_folder()
    (folder / "allocation.json").unlink()
    with pytest.raises(ConfigError, match=r"allocation\.json"):
        write_report(folder)
