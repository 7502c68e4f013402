"""Curves of one and of several runs, their page, and their files for a paper."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from report.test_report import MakeRun, Page, page

from zorba_ray.commands import report as command
from zorba_ray.records.stream import table
from zorba_ray.report import curves
from zorba_ray.report.curves import (
    AXES,
    METRICS,
    MOST_POINTS,
    NEEDED,
    Series,
    bands,
    curves_of,
    panel,
    picture,
    pictures,
    read_curves,
)
from zorba_ray.report.gather import read_run
from zorba_ray.report.pictures import write_figures
from zorba_ray.report.runs_page import differing, grouped, headline, read_one, write_comparison
from zorba_ray.runs.lock import Lock
from zorba_ray.runs.state import state_of

FLEET = "fleet.devices=[{forward: 1e10}]"
SHORT = {"rounds": 20, "reporting": 3, "blocks": 2}


def test_costs_are_the_sums_of_the_records_up_to_each_round(run_folder: MakeRun) -> None:
    folder = run_folder(**SHORT)
    read, records = read_curves(folder), table(folder)
    clients = records.filter(pc.equal(records["kind"], "client"))
    for r in (0, 1, 7, 20):
        before = records.filter(pc.and_(pc.equal(records["kind"], "round"), pc.less(records["round"], r)))
        assert read.costs["bytes"][r] == sum(before["bytes_up"].to_pylist()) + sum(before["bytes_down"].to_pylist())
        assert read.costs["seconds"][r] == pytest.approx(sum(before["seconds"].to_pylist()))
        spent = clients.filter(pc.less(clients["round"], r))
        assert read.costs["flops"][r] == pytest.approx(sum(spent["flops"].to_pylist()))
    assert read.at.tolist() == [0, 10, 20] and read.tests["accuracy"][-1] == 0.93
    assert np.isnan(read.costs["virtual_seconds"][1:]).all()
    kept = read_run(folder).curves
    for name, values in read.costs.items():
        np.testing.assert_array_equal(values, kept.costs[name])


def test_a_cost_that_a_run_does_not_have_has_no_panel(run_folder: MakeRun) -> None:
    names = {each.name for each in pictures([Series("x", [read_curves(run_folder(**SHORT))])])}
    assert names == {f"{metric}-{cost}" for metric in ("accuracy", "loss", "training")
                     for cost in ("rounds", "flops", "bytes", "seconds")}  # fmt: skip


def test_runs_that_differ_in_their_seed_are_one_series(run_folder: MakeRun) -> None:
    folders = [run_folder([f"seed={seed}", f"step.lr={rate}"], **SHORT) for seed, rate in ((0, 1), (1, 1), (0, 2))]
    runs = [read_one(folder, False) for folder in folders]
    assert differing(runs) == ["step.lr", "seed"]
    assert [(label, len(members)) for label, members in grouped(runs)] == [("lr 1 (n = 2)", 2), ("lr 2", 1)]
    assert "93.0 % (median of 2 seeds, 93.0 % to 93.0 %); the others ended at 93.0 %." in headline(grouped(runs))
    twice = [*runs, read_one(folders[0], False)]
    assert [len(members) for _, members in grouped(twice)] == [1, 1, 1, 1], "the same seed twice is no spread"


def test_the_page_of_several_runs_stands_alone_and_switches_without_scripts(
    run_folder: MakeRun, tmp_path: Path
) -> None:
    folders = [run_folder([f"seed={seed}", "name=<b>"], **SHORT) for seed in (0, 1)]
    path, _ = write_comparison(folders, tmp_path / "page.html")
    seen, html = Page(path.read_text(encoding="utf-8")), path.read_text(encoding="utf-8")
    assert not seen.fetched and "script" not in seen.tags and len(set(seen.ids)) == len(seen.ids)
    tabs = re.findall(r'<input type="radio" name="x" id="x-(\w+)"( checked)?>', html)
    assert tabs == [("rounds", " checked"), ("flops", ""), ("bytes", ""), ("seconds", "")]
    assert html.count('<div class="tab">') == len(tabs)
    assert len(tabs) <= 5 and all(f"input:nth-of-type({i + 1}):checked ~ .tab:nth-of-type({i + 1})" in html
                                  for i in range(len(tabs)))  # fmt: skip
    for text in ("all runs (n = 2): 93.0 % at 20", "zorba-ray report", "config.yaml", "complete"):
        assert text in seen.text, text
    assert seen.text.count("seed") >= 1


def test_a_run_that_goes_on_has_a_page(run_folder: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "AXES", curves.AXES[:1])
    folder = run_folder(["rounds=50"], **SHORT)
    (folder / "summary.json").unlink()
    assert "cut off" in page(folder).text
    lock = Lock(folder)
    try:
        seen = page(folder)
        summary, state = state_of(folder, read_run(folder).config)
    finally:
        lock.release()
    assert "still going" in seen.text and "20 of 50" in seen.text
    assert state.words == "still going" and summary.rounds_done == 20 and summary.accuracy_last == 0.93


def test_a_summary_of_an_earlier_sitting_is_not_taken_for_the_runs(run_folder: MakeRun) -> None:
    folder = run_folder(["rounds=50"], **SHORT)
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))
    assert state_of(folder, read_run(folder).config)[1].words == "cut off"


def test_figures_for_a_paper(run_folder: MakeRun, tmp_path: Path) -> None:
    folder, out = run_folder([FLEET], **SHORT), tmp_path / "figures"
    made = pictures([Series("this run", [read_curves(folder)])])[:1]
    svg, pdf, png, data = write_figures(made, out)
    assert pdf.read_bytes()[:5] == b"%PDF-" and png.read_bytes()[1:4] == b"PNG"
    root = ET.parse(svg).getroot()
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(72 * 3.35)
    assert not re.search("#0a0b0c|#1a1b1c|#2a2b2c|#3a3b3c", svg.read_text(encoding="utf-8")), "stand-in colours"
    with data.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([0.53, 0.73, 0.93])
    assert [float(row["rounds"]) for row in rows] == [0, 10, 20]


def test_what_does_not_go_together_is_one_line(
    run_folder: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(run_folder(**SHORT))
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.yaml").touch()
    for line, word in (
        ([folder, "--out", "x.html"], "--out is for"),
        ([folder, folder, "--study"], "one folder"),
        ([str(tmp_path / "study")], "add --study"),
        ([folder, "--study"], "study.yaml"),
    ):
        assert command.main(line) == 2
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1


def test_values_stand_under_the_pointer(run_folder: MakeRun) -> None:
    series = [Series("it", [read_curves(run_folder(**SHORT))])]
    drawn = picture(series, METRICS[0], AXES[0])
    assert drawn is not None
    html = panel(series, METRICS[0], AXES[0], drawn)
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="6" fill-opacity="0"><title>([^<]+)</title>', html)
    assert [said for _, _, said in dots] == ["it: 53.0 % at 0", "it: 73.0 % at 10", "it: 93.0 % at 20"]
    xs, ys = ([float(dot[i]) for dot in dots] for i in (0, 1))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2) and ys == sorted(ys, reverse=True)
    assert 0 < xs[0] < xs[2] < 72 * 4.7 and 0 < ys[2] < ys[0] < 72 * 2.75


def test_seeds_of_other_lengths_are_put_together_round_by_round() -> None:
    """One was cut off: what both have is compared at the same rounds, however many points are drawn."""
    whole, cut = (curves_of({name: np.ones(n) for name in NEEDED} | {"loss": np.arange(float(n))}, {}, {})
                  for n in (700, 450))  # fmt: skip
    ((_, _, band),) = bands([Series("x", [whole, cut])], METRICS[2], AXES[0])
    assert len(band.x) <= MOST_POINTS + 1 and band.x[-1] == 450
    assert (np.abs(band.most - band.least) < 10).all() and (np.abs(band.median - band.x) < 10).all()
