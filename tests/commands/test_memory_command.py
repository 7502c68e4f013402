"""`zorba-ray memory`: what clients need of VRAM, for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zorba_ray.commands.main import main

SMALL = ["clients.count=6", "clients.batch=4", "zo.directions=4", "allocation.plan=cyclic",
         "task.train_examples=400", "task.test_examples=40"]  # fmt: skip
WIDE = "clients.budgets.classes=[{name: small, share: 1, budget: 1 MiB}, {name: large, share: 1, budget: 8 MiB}]"


def test_rows_say_parts_that_add_up_and_what_a_method_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["memory", *SMALL, WIDE, "--methods", "zorba,fedspzo,fedavg", "--json"]) == 0
    shown = capsys.readouterr()
    assert "Saves against" in shown.err and not list(tmp_path.iterdir()), "nothing is written"
    found = json.loads(shown.out)
    assert [(row["method"], row["class"]) for row in found["rows"]] == [
        (method, name) for method in ("zorba", "fedspzo", "fedavg") for name in ("small", "large")
    ]
    lacks = [row for row in found["rows"] if row["slack"] < 0]
    assert len(lacks) == shown.err.count("does not fit class") > 0
    for row in lacks:
        assert f"{row['method']} does not fit class {row['class']!r}: raise its budget by" in shown.err
        assert f"({-row['slack']} B)" in shown.err
    by = {(row["method"], row["class"]): row for row in found["rows"]}
    for row in found["rows"]:
        assert sum(row["parts"].values()) == pytest.approx(row["predicted"], abs=len(row["parts"]))
        assert row["traced"] == pytest.approx(row["predicted"], rel=0.05)
        assert row["slack"] == row["budget"] - row["predicted"] and row["bus"] >= 0
    zorba, other = by["zorba", "large"], by["fedspzo", "large"]
    assert zorba["blocks"] == other["blocks"] == 6 and zorba["bus"] == 0, "everything is on its device"
    saved = zorba["saving_against"]["fedspzo"]
    assert 0 < saved == pytest.approx(1 - zorba["predicted"] / other["predicted"])
    assert zorba["saving_against"]["in-place"] < 0, "an evaluated copy beside the weights"
    assert by["zorba", "small"]["saving_against"]["in-place"] > 0
    assert by["fedavg", "small"]["slack"] < 0 < by["fedavg", "large"]["slack"], "full activation does not fit them all"


def test_what_does_not_fit_says_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = "clients.budgets.classes=[{name: tiny, budget: 100 KiB}]"
    assert main(["memory", *SMALL, "allocation.plan=zorba", tiny]) == 2
    assert "raise it to" in capsys.readouterr().err
    assert main(["memory", "--methods", "zorbo"]) == 2
    assert "no method is called 'zorbo'" in capsys.readouterr().err
