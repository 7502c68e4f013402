"""Several runs on one page: what they differ in, how they learned against each cost, and what they came to."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from zorba_ray.config import load
from zorba_ray.config.environment import written
from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, flops, percent
from zorba_ray.methods import kind_of
from zorba_ray.report import targets
from zorba_ray.report.curves import Curves, Series, read_curves, switchable
from zorba_ray.report.page import code, page, paragraph, section, table
from zorba_ray.runs.bound import FREE
from zorba_ray.runs.folder import CONFIG, write_whole
from zorba_ray.runs.resume import flat
from zorba_ray.runs.state import State, state_of
from zorba_ray.runs.summary import Summary
from zorba_ray.runs.trust import refuse_method_file

FILE = "comparison.html"
NOTHING = "–"


@dataclass(frozen=True)
class One:
    """A run among others."""

    folder: Path
    keys: dict[str, Any]  # its config, flat
    summary: Summary
    state: State
    curves: Curves


def write_comparison(folders: Sequence[Path], path: Path, trusted: bool = False) -> tuple[Path, list[Series]]:
    """Make the page of several runs; its path, and the series that it shows. `trusted` as in `read_run`."""
    runs = [read_one(folder, trusted) for folder in folders]
    groups = grouped(runs)
    series = [Series(label, [one.curves for one in members]) for label, members in groups]
    write_whole(path, render(runs, groups, series))
    return path, series


def read_one(folder: Path, trusted: bool) -> One:
    refuse_method_file(folder, trusted)
    config = load.load_config(folder / CONFIG, kind_of=kind_of, elsewhere=True)
    summary, state = state_of(folder, config)
    return One(folder, {name: written(value) for name, value in flat(config)}, summary, state, read_curves(folder))


def differing(runs: Sequence[One]) -> list[str]:
    """Keys that decide a ledger and that the runs do not share, `seed` last."""
    names = list(dict.fromkeys(name for one in runs for name in one.keys))
    bound = [name for name in names if name == "rounds" or name.partition(".")[0] not in FREE]
    found = [name for name in bound if any(one.keys.get(name) != runs[0].keys.get(name) for one in runs)]
    return sorted(found, key=lambda name: name == "seed")


def grouped(runs: Sequence[One]) -> list[tuple[str, list[One]]]:
    """Runs that differ in nothing but the seed, together, under what sets them apart from the others; two that do not
    even differ in it stand alone, under their folders' names."""
    names = [name for name in differing(runs) if name != "seed"]
    found: dict[str, list[One]] = {}
    for one in runs:
        said = [f"{name.rpartition('.')[2]} {spelled(one.keys.get(name))}" for name in names]
        found.setdefault(", ".join(said) or "all runs", []).append(one)
    alike = {label for label, members in found.items() if len({one.keys["seed"] for one in members}) < len(members)}
    parted = [
        (label, members) if label not in alike else (f"{label} ({one.folder.name})".removeprefix("all runs "), [one])
        for label, members in found.items()
        for one in (members if label in alike else members[:1])
    ]
    return [(f"{label} (n = {len(members)})" if len(members) > 1 else label, members) for label, members in parted]


def spelled(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if dataclasses.is_dataclass(value):
        return "{" + ", ".join(f"{f.name}: {spelled(getattr(value, f.name))}" for f in dataclasses.fields(value)) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


def render(runs: Sequence[One], groups: Sequence[tuple[str, list[One]]], series: Sequence[Series]) -> str:
    title = f"{len(runs)} runs"
    words = sorted({f"{one.summary.model} on {one.summary.task}" for one in runs})
    parts = [f'<header><h1>{escape(title)}</h1><div class="soft">{escape(" · ".join(words))}</div></header>']
    parts += [paragraph(headline(groups)), *(paragraph(note, "note") for note in warnings(runs))]
    about = (
        "Median of the runs that differ in their seed alone, and from the least to the most. Values stand under the "
        "pointer; colours and dashes are the same in all panels."
    )
    parts.append(section("Learning", about, switchable(series)))
    parts += [outcome(groups), *to_target(runs, series), *differences(runs), reproduce(runs)]
    return page(f"{title} · zorba_ray", parts)


def headline(groups: Sequence[tuple[str, list[One]]]) -> str:
    """What came out, in two sentences."""
    scored = [(label, members, last) for label, members in groups if (last := lasts(members))]
    if not scored:
        return "No run has been evaluated."
    label, members, last = max(scored, key=lambda each: float(np.median(each[2])))
    over = f" (median of {len(last)} seeds, {percent(min(last))} to {percent(max(last))})" if len(last) > 1 else ""
    best = f"Best at its end: {label}, test accuracy {percent(float(np.median(last)))}{over}"
    if len(scored) > 1:
        others = [float(np.median(values)) for other, _, values in scored if other != label]
        best += f"; the others ended at {percent(min(others))}" + f" to {percent(max(others))}" * (len(others) > 1)
    sent = np.median([one.summary.bytes_up + one.summary.bytes_down for one in members])
    work = np.median([one.summary.flops for one in members])
    cost = f"sent and received {format_bytes(float(sent))} and computed {flops(float(work))} forward"
    return f"{best}. Its clients {cost}."


def lasts(members: Sequence[One]) -> list[float]:
    return [one.summary.accuracy_last for one in members if one.summary.accuracy_last is not None]


def warnings(runs: Sequence[One]) -> list[str]:
    """What a reader must know before comparing."""
    said = [f"{one.folder.name}: {one.state.words}, {one.summary.rounds_done:,} of {one.summary.rounds:,} rounds."
            for one in runs if not one.state.complete]  # fmt: skip
    tasks = {(one.summary.task, one.keys["evaluation.examples"], one.keys["evaluation.data"]) for one in runs}
    return said + ["The runs are not evaluated on the same data: their scores do not compare."] * (len(tasks) > 1)


def outcome(groups: Sequence[tuple[str, list[One]]]) -> str:
    head = ["Run", "Folder", "Seed", "Rounds", "Test accuracy", "Test loss", "Worst clients", "Up", "Down", "Forward",
            "Virtual", "Here", ""]  # fmt: skip
    rows = []
    for label, members in groups:
        for i, one in enumerate(members):
            s = one.summary
            rows.append([
                label if i == 0 else "", one.folder.name, str(s.seed), f"{s.rounds_done:,}", share(s.accuracy_last),
                NOTHING if s.test_loss_last is None else f"{s.test_loss_last:.4f}", share(s.client_accuracy_worst),
                format_bytes(s.bytes_up), format_bytes(s.bytes_down), flops(s.flops),
                NOTHING if s.virtual_seconds is None else duration(s.virtual_seconds), duration(s.seconds_rounds),
                one.state.words,
            ])  # fmt: skip
    about = "After the last round that is done; seconds here are those of rounds, evaluations left out."
    return section("What came out", about, table(head, rows))


def to_target(runs: Sequence[One], series: Sequence[Series]) -> list[str]:
    wanted = sorted({float(one.keys["stop.accuracy"]) for one in runs} - {0.0})
    head, rows = targets.table_of(series, wanted)
    about = (
        "Until the first evaluation with so much test accuracy, the median run: half and nine tenths of the way from "
        "the lowest start to the best that any run had, and what runs were to reach, if anything."
    )
    return [section("What it cost to get there", about, table(head, rows))] if rows else []


def share(value: float | None) -> str:
    return NOTHING if value is None else percent(value)


def differences(runs: Sequence[One]) -> list[str]:
    names = differing(runs)
    if not names:
        return []
    rows = [[name, *(spelled(one.keys.get(name)) for one in runs)] for name in names]
    return [section("What they differ in", "Keys that decide results; all others are the same.",
                    table(["Key", *(one.folder.name for one in runs)], rows))]  # fmt: skip


def reproduce(runs: Sequence[One]) -> str:
    again = " ".join(shlex.quote(str(one.folder)) for one in runs)
    lines = [f"# this page again\nzorba-ray report {again}"]
    lines += [f"# {one.folder.name} again\npython -m zorba_ray.run {shlex.quote(str(one.folder / CONFIG))}"
              + " out=" * bool(one.keys["out"]) for one in runs]  # fmt: skip
    rows = [[one.folder.name, one.summary.version, libraries(one), one.summary.ledger_sha256[:16],
             one.summary.model_sha256[:16] or NOTHING] for one in runs]  # fmt: skip
    head = ["Run", "zorba_ray", "torch, ray", "Ledger", "Model"]
    about = "The same config and seed give the same ledger; the first 16 digits of SHA-256."
    return section("Reproduce", about, table(head, rows), code("\n\n".join(lines)))


def libraries(one: One) -> str:
    found = one.summary.environment.get("libraries", {})
    return ", ".join(str(found.get(name, NOTHING)) for name in ("torch", "ray"))
