"""Whole runs in the simulated world, in this process: what is recorded, and that resuming arrives at the same bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from world.world_settings import CLOCK, EVERYTHING, SLOW, SMALL, rows, run

from zorba_ray.config.errors import ConfigError
from zorba_ray.ledger import read_ledger
from zorba_ray.messages import CombinedStep
from zorba_ray.records.stream import table
from zorba_ray.report.display import last_lines
from zorba_ray.report.run_page import write_report
from zorba_ray.rounds.loop import Diverged
from zorba_ray.runs.config import load_config
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.replay import replayed_model
from zorba_ray.world.faults import liars


def without_seconds(folder: Path) -> list[dict[str, Any]]:
    """Records less what differs from one sitting to the next; NaN made equal to itself."""
    kept = [{name: value for name, value in row.items() if name != "seconds"} for row in table(folder).to_pylist()]
    return [{name: repr(value) for name, value in row.items()} for row in kept]


@pytest.mark.parametrize(
    "overrides", [EVERYTHING, [*EVERYTHING, "zo.shared=false", "method=zorba"]], ids=["shared", "private"]
)
def test_with_everything_on_a_run_resumed_at_any_round_is_the_same_run(tmp_path: Path, overrides: list[str]):
    whole = tmp_path / "whole"
    run(whole, overrides)
    rounds = rows(whole, "round")
    for what in ("late", "dropped", "stale"):
        assert sum(row[what] for row in rounds) > 0, f"the config is to show {what} clients"
    assert any(isinstance(entry.step, CombinedStep) for entry in read_ledger(whole / LEDGER).entries)
    part = tmp_path / "part"
    for stop in range(1, 7):  # a sitting for every round
        run(part, overrides, resume=stop > 1, stop_after=stop if stop < 6 else None)
        assert (whole / LEDGER).read_bytes().startswith((part / LEDGER).read_bytes())
    assert (part / LEDGER).read_bytes() == (whole / LEDGER).read_bytes()
    assert without_seconds(part) == without_seconds(whole)


def test_a_ledger_with_late_reports_replays_to_the_model(tmp_path: Path):
    summary = run(tmp_path, EVERYTHING)
    assert replayed_model(tmp_path).sha256 == summary.model_sha256


def test_late_reports_reach_the_first_round_that_ends_after_them_and_their_clients_are_busy_until_then(tmp_path: Path):
    run(tmp_path, [*EVERYTHING, "rounds=10"])
    ends = {row["round"]: row["virtual_seconds"] for row in rows(tmp_path, "round")}
    stale = {row["round"]: row["stale"] for row in rows(tmp_path, "round")}
    clients = rows(tmp_path, "client")
    expected = dict.fromkeys(ends, 0)
    for row in clients:
        if row["status"] == "late":
            arrival = (ends[row["round"] - 1] if row["round"] else 0.0) + row["virtual_seconds"]
            reached = next((t for t in ends if t > row["round"] and ends[t] >= arrival), None)
            if reached is not None:
                expected[reached] += 1
            busy = [t for t in ends if t > row["round"] and ends[t - 1] < arrival]
            assert not any(other["client"] == row["client"] and other["round"] in busy for other in clients)
    assert stale == expected


def test_a_round_lasts_no_longer_than_its_deadline_and_counts_only_who_was_in_time(tmp_path: Path):
    run(tmp_path, [*SLOW, "participation.deadline=0.5"])
    before = 0.0
    for row in rows(tmp_path, "round"):
        times = {c["client"]: c for c in rows(tmp_path, "client") if c["round"] == row["round"]}
        assert row["virtual_seconds"] - before <= 0.5 + 1e-12
        assert row["reported"] + row["late"] == row["participants"] == 6
        assert all((c["virtual_seconds"] <= 0.5) == (c["status"] == "ok") for c in times.values())
        before = row["virtual_seconds"]


def test_over_selection_counts_as_many_as_wanted_the_fastest(tmp_path: Path):
    run(tmp_path, [*SLOW, "participation.clients=3", "participation.over=0.6"])
    clients = rows(tmp_path, "client")
    for t in range(6):
        mine = sorted((row["virtual_seconds"], row["status"]) for row in clients if row["round"] == t)
        assert [status for _, status in mine] == ["ok"] * 3 + ["late"] * 2


def test_a_report_of_no_use_does_not_take_the_place_of_one_that_is(tmp_path: Path):
    lying = ["faults.byzantine=0.34", "faults.lie=nan"]
    run(tmp_path, [*SLOW, "participation.clients=3", "participation.over=1", *lying])
    for row in rows(tmp_path, "round"):
        assert (row["participants"], row["reported"], row["excluded"], row["late"]) == (6, 3, 2, 1)


def test_without_a_fleet_no_time_is_invented(tmp_path: Path):
    run(tmp_path, ["participation.clients=3"])
    assert all(row["virtual_seconds"] is None for row in table(tmp_path).to_pylist())


def test_a_client_round_takes_latency_download_work_and_upload(tmp_path: Path):
    run(tmp_path, [*CLOCK, "participation.clients=2"])
    for row in rows(tmp_path, "client"):
        seconds = 0.2 + row["flops"] / 1e9 + 8 * (row["bytes_down"] + row["bytes_up"]) / 1e4
        assert row["virtual_seconds"] == pytest.approx(seconds, rel=1e-12)
    clock = np.diff([0.0, *(row["virtual_seconds"] for row in rows(tmp_path, "round"))])
    slowest = [max(c["virtual_seconds"] for c in rows(tmp_path, "client") if c["round"] == t) for t in range(6)]
    np.testing.assert_allclose(clock, slowest, rtol=1e-12)


def trace_file(folder: Path, *intervals: tuple[int, float, float]) -> Path:
    path = folder / "trace.csv"
    path.write_text("client,from,to\n" + "".join(f"{n},{a},{b}\n" for n, a, b in intervals))
    return path


def test_a_round_with_nobody_available_is_recorded_and_changes_nothing(tmp_path: Path):
    trace = trace_file(tmp_path, (0, 0, 2), (1, 1, 2), (2, 4, 6))
    overrides = ["participation.availability=trace", f"participation.trace={trace}"]
    summary = run(tmp_path / "whole", overrides)
    entries = read_ledger(tmp_path / "whole" / LEDGER).entries
    assert [row["participants"] for row in rows(tmp_path / "whole", "round")] == [1, 2, 0, 0, 1, 1]
    assert [math.isnan(entry.loss) for entry in entries] == [False, False, True, True, False, False]
    assert not any(entry.step.terms(0, block) for entry in entries[2:4] for block in range(4))
    assert replayed_model(tmp_path / "whole").sha256 == summary.model_sha256
    run(tmp_path / "part", overrides, stop_after=3)
    run(tmp_path / "part", overrides, resume=True)
    assert (tmp_path / "part" / LEDGER).read_bytes() == (tmp_path / "whole" / LEDGER).read_bytes()


def test_the_virtual_clock_waits_for_the_next_client_of_a_trace_in_seconds(tmp_path: Path):
    trace = trace_file(tmp_path, (0, 0, 1), (3, 1000, 1000.1), (4, 2000, 9999))
    overrides = [
        *CLOCK, "participation.availability=trace", f"participation.trace={trace}", "participation.trace_unit=seconds"
    ]
    run(tmp_path / "run", overrides)
    who = [(row["round"], row["client"]) for row in rows(tmp_path / "run", "client")]
    ends = [row["virtual_seconds"] for row in rows(tmp_path / "run", "round")]
    first = sum(client == 0 for _, client in who)
    assert [client for _, client in who] == [0] * first + [3] + [4] * (5 - first)
    assert ends[first] > 1000 and ends[first + 1] > 2000


def test_a_trace_that_is_over_stops_the_run_with_one_line(tmp_path: Path):
    trace = trace_file(tmp_path, (0, 0, 2))
    with pytest.raises(ConfigError, match=r"nobody is available from round 2 on"):
        run(tmp_path / "run", ["participation.availability=trace", f"participation.trace={trace}"])
    assert len(read_ledger(tmp_path / "run" / LEDGER).entries) == 2


def test_liars_are_recorded_and_what_the_server_recognises_is_left_out(tmp_path: Path):
    lying = ["faults.byzantine=0.34", "faults.lie=nan"]
    run(tmp_path, lying)
    who = np.flatnonzero(liars(load_config(None, [*SMALL, *lying])))
    assert len(who) == 2
    for row in rows(tmp_path, "client"):
        assert row["lied"] == (row["client"] in who)
        assert row["status"] == ("nan" if row["lied"] else "ok")
    assert all(row["excluded"] == 2 and row["reported"] == 4 for row in rows(tmp_path, "round"))
    assert all(math.isfinite(entry.loss) for entry in read_ledger(tmp_path / LEDGER).entries)


def test_too_few_left_stops_the_run_and_most_not_finite_is_divergence(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"2 of 6 reports were left out \(nan\), and 4 remain; .* is 5"):
        run(tmp_path / "few", ["faults.byzantine=0.34", "faults.lie=nan", "faults.min_clients=5"])
    with pytest.raises(Diverged, match="4 of 6 clients reported"):
        run(tmp_path / "most", ["faults.byzantine=0.67", "faults.lie=nan"])
    assert read_ledger(tmp_path / "most" / LEDGER).entries == []


def test_when_all_flip_their_signs_the_first_step_goes_the_other_way(tmp_path: Path):
    run(tmp_path / "honest", ["rounds=1"])
    run(tmp_path / "lying", ["rounds=1", "faults.byzantine=1"])
    steps = [read_ledger(tmp_path / name / LEDGER).entries[0].step for name in ("honest", "lying")]
    np.testing.assert_array_equal(steps[0].coefficients, -steps[1].coefficients)
    assert steps[0].coefficients.any()


def test_outliers_are_left_out(tmp_path: Path):
    huge = ["clients.count=8", "faults.byzantine=0.25", "faults.lie=scale", "faults.lie_scale=1e6", "faults.outlier=50"]
    run(tmp_path, huge)
    for row in rows(tmp_path, "client"):
        assert (row["status"] == "outlier") == row["lied"]


@pytest.mark.parametrize("rule", ["median", "trimmed", "clipped"])
def test_robust_averages_go_through_whole_runs(tmp_path: Path, rule: str):
    attacked = ["step.weights=equal", "faults.byzantine=0.17", "faults.lie=scale", "faults.lie_scale=1e6",
                "allocation.plan=full", "clients.budgets.classes=[{budget: 1 GiB}]", "step.trim=0.2"]  # fmt: skip
    run(tmp_path, [*attacked, f"step.aggregate={rule}"])
    honest = [row["scalars"] for row in rows(tmp_path, "client") if not row["lied"]]
    most = np.abs(honest).max()
    for entry in read_ledger(tmp_path / LEDGER).entries:
        assert np.abs(entry.step.coefficients).max() <= max(most, 1.0)


PRIVATE = ["privacy.noise=1", "privacy.clip=0.5", "step.weights=equal"]


def test_a_private_run_counts_what_it_spends_and_resumes_to_the_byte(tmp_path: Path):
    pytest.importorskip("dp_accounting")
    poisson = [*PRIVATE, "participation.clients=50 %", "participation.choice=poisson"]
    run(tmp_path / "whole", poisson)
    spent = [row["epsilon"] for row in rows(tmp_path / "whole", "round")]
    assert spent == sorted(spent) and 0 < spent[0] < spent[-1]
    run(tmp_path / "part", poisson, stop_after=3)
    run(tmp_path / "part", poisson, resume=True)
    assert (tmp_path / "part" / LEDGER).read_bytes() == (tmp_path / "whole" / LEDGER).read_bytes()
    assert without_seconds(tmp_path / "part") == without_seconds(tmp_path / "whole")


def test_summary_and_report_tell_what_the_world_did(tmp_path: Path):
    pytest.importorskip("dp_accounting")
    summary = run(tmp_path / "all", EVERYTHING)
    assert summary.virtual_seconds == rows(tmp_path / "all", "round")[-1]["virtual_seconds"]
    assert summary.late == sum(row["status"] == "late" for row in rows(tmp_path / "all", "client")) > 0
    assert any(line.startswith("On the simulated fleet") for line in last_lines(summary, tmp_path))
    page = write_report(tmp_path / "all").read_text()
    for words in ("Time on the simulated fleet", "Too late for their round", "Dropped out", "Liars"):
        assert words in page
    run(tmp_path / "plain", [])
    page = write_report(tmp_path / "plain").read_text()
    assert "simulated fleet" not in page and "Counted in their round" not in page
    summary = run(tmp_path / "private", PRIVATE)
    assert summary.epsilon == rows(tmp_path / "private", "round")[-1]["epsilon"]
    assert "Privacy spent" in write_report(tmp_path / "private").read_text()


def test_a_report_can_be_made_of_a_run_with_empty_rounds(tmp_path: Path):
    trace = trace_file(tmp_path, (0, 1, 3), (2, 5, 6))
    run(tmp_path / "run", ["participation.availability=trace", f"participation.trace={trace}"])
    assert "0 to 1 of 6 clients" in write_report(tmp_path / "run").read_text()


def test_first_order_clients_drop_out_and_come_late_too(tmp_path: Path):
    trained = [
        "fleet.devices=[{forward: 1e9, latency: 0.2}]", "fleet.spread=1", "method=fedavg", "participation.dropout=0.2",
        "participation.deadline=2", "rounds=4", "fedavg.epochs=0",
        "clients.budgets.classes=[{budget: 1 GiB}]",
    ]  # fmt: skip
    summary = run(tmp_path / "whole", trained)
    statuses = {row["status"] for row in rows(tmp_path / "whole", "client")}
    assert statuses == {"ok", "late", "dropped"}
    assert replayed_model(tmp_path / "whole").sha256 == summary.model_sha256
    run(tmp_path / "part", trained, stop_after=2)
    run(tmp_path / "part", trained, resume=True)
    assert (tmp_path / "part" / LEDGER).read_bytes() == (tmp_path / "whole" / LEDGER).read_bytes()


def test_with_two_buffers_clients_wait_for_less_of_what_crosses_the_bus(tmp_path: Path):
    """Scalars and bytes stay; a client-round takes as long as the longer of computing and copying, at the least."""
    keys = ["clients.budgets.explicit=[1 GiB,1 GiB,1 GiB,1 GiB,1 GiB,1 GiB]", "model.active=offload", "rounds=2",
            "fleet.devices=[{forward: 1e9, bus: 1e8}]"]  # fmt: skip
    for streaming in ("single", "double"):
        run(tmp_path / streaming, [*keys, f"model.streaming={streaming}"])
    one, two = (rows(tmp_path / streaming, "client") for streaming in ("single", "double"))
    for single, double in zip(one, two, strict=True):
        compute, copy = double["flops"] / 1e9, 8 * double["bytes_bus"] / 1e8
        assert single["virtual_seconds"] == pytest.approx(compute + copy)
        assert max(compute, copy) < double["virtual_seconds"] < 0.9 * single["virtual_seconds"]
        same = ("client", "loss", "flops", "bytes_bus", "scalars")
        assert [single[name] for name in same] == [double[name] for name in same]
