"""From the runs of a study to its tables, figures and page; again at any time, from the folder alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from zorba_ray.report import study_figures as figures
from zorba_ray.report.page import code, facts, figure, folded, page, section
from zorba_ray.report.page import table as html_table
from zorba_ray.report.pictures import Picture, inline, write_picture
from zorba_ray.report.study_figures import AXES, Axis, Curve, Sweep
from zorba_ray.report.study_tables import (
    Table,
    as_latex,
    as_markdown,
    as_text,
    final_score,
    signed_target,
    tables,
    to_target,
)
from zorba_ray.studies.aggregate import band, spread
from zorba_ray.studies.cells import cells
from zorba_ray.studies.collect import Comparison, collect, write_tables
from zorba_ray.studies.spec import Study
from zorba_ray.studies.store import STUDY

PAGE = "report.html"


def conclude(study: Study, folder: Path) -> tuple[str, bool]:
    """Write everything; the table as text, and whether any final run worked."""
    comparisons = collect(study, cells(study), folder)
    write_tables(comparisons, folder)
    made = tables(study, comparisons)
    text = "\n".join(filter(None, map(as_text, made)))
    (folder / "table.txt").write_text(text, encoding="utf-8")
    (folder / "table.tex").write_text("\n".join(filter(None, map(as_latex, made))), encoding="utf-8")
    (folder / "table.md").write_text("\n".join(filter(None, map(as_markdown, made))), encoding="utf-8")
    body = [header(study, comparisons), *(show_table(each) for each in made)]
    for each in sections(study, comparisons):
        write_picture(each.picture, folder / f"{each.picture.name}.png")
        body.append(section(each.title, each.about, figure(inline(each.picture), each.about)))
    body.append(folded("Study", code((folder / STUDY).read_text(encoding="utf-8"))))
    (folder / PAGE).write_text(page(f"{study.name} · zorba_ray", body), encoding="utf-8")
    return text, any(result.ok for each in comparisons for result in each.finals)


def header(study: Study, comparisons: Sequence[Comparison]) -> str:
    done = sum(len(each.finals) for each in comparisons)
    wanted = len(comparisons) * len(study.seeds)
    words = [f"{len(study.chosen)} arms", f"{len(study.seeds)} seeds", f"base {study.base or 'embedded'}"]
    words += [f"{done} of {wanted} final runs"] if done < wanted else []
    return f'<header><h1>{escape(study.name)}</h1><div class="soft">{escape(" · ".join(words))}</div></header>'


def show_table(each: Table) -> str:
    if not each.rows:
        return ""
    if each.head[-1] == "Note":
        return section(each.title, "", facts([(", ".join(row[:-1]), row[-1]) for row in each.rows]))
    return section(each.title, each.about, html_table(each.head, each.rows))


@dataclass(frozen=True)
class Shown:
    """A picture in its section of the page."""

    title: str
    about: str
    picture: Picture


def pictures_of(study: Study, folder: Path) -> list[Picture]:
    return [each.picture for each in sections(study, collect(study, cells(study), folder))]


def sections(study: Study, comparisons: Sequence[Comparison]) -> list[Shown]:
    parts = []
    for axis in AXES:
        lines = curves_of(study, comparisons, axis)
        if lines:
            parts.append(against(study, lines, axis))
    if study.scale.key:
        parts.append(scale_picture(study, comparisons))
    return [*parts, *memory_picture(comparisons), *sweep_picture(study, comparisons)]


def against(study: Study, lines: Sequence[Curve], axis: Axis) -> Shown:
    percent, name = study.metric == "accuracy", f"test {study.metric}"
    rows = [
        (line.arm, line.panel, *values)
        for line in lines
        for values in zip(*(v.tolist() for v in (line.band.x, line.band.median, line.band.least, line.band.most)),
                          strict=True)
    ]  # fmt: skip
    about = "Median of the seeds, and from the least to the most. Dotted: the target. Grey: the other panels' arms."
    return Shown(f"{name.capitalize()} against {axis.title}", about, Picture(
        f"{study.metric}-{axis.cost.replace('_', '-')}",
        lambda: figures.curves(lines, axis, name, percent, study.target),
        columns(("arm", "panel", axis.cost, study.metric, "least", "most"), rows),
    ))  # fmt: skip


def columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def curves_of(study: Study, comparisons: Sequence[Comparison], axis: Axis) -> list[Curve]:
    """Of the runs that did not fail; none where the records do not have the cost."""
    found = []
    for each in comparisons:
        runs = [r for r in each.finals if r.ok and np.isfinite(r.curve[axis.cost]).all() and r.curve[axis.cost][-1] > 0]
        if not runs:
            continue
        panel = f"{study.scale.key} = {each.cell.setting}" if study.scale.key else each.cell.arm.group
        drawn = band([r.curve[axis.cost] for r in runs], [r.curve[study.metric] for r in runs])
        found.append(Curve(each.cell.arm.name, panel, drawn))
    return found


def memory_picture(comparisons: Sequence[Comparison]) -> list[Shown]:
    measured = [(each, [result for result in each.finals if len(result.vram)]) for each in comparisons]
    rows = [(each.cell.label, results[0].vram) for each, results in measured if results]
    if not rows:
        return []
    about = "By the allocator's model, of the first seed; the number is that of the client that needs most."
    data = columns(("arm", "bytes"), [(name, value) for name, values in rows for value in values.tolist()])
    return [Shown("VRAM of the clients", about, Picture("vram", lambda: figures.memory(rows), data))]


def sweep_picture(study: Study, comparisons: Sequence[Comparison]) -> list[Shown]:
    metric = study.tuning.metric
    found = []
    for each in comparisons:
        ended = {r.run.rate: float(r.curve[metric][-1]) if r.ok else math.nan for r in each.sweep}
        if ended:
            rates = np.array(sorted(ended))
            scores = np.array([ended[rate] for rate in rates])
            choice = each.choice
            chosen = None if choice is None else choice.rate
            found.append(Sweep(each.cell.label, rates, scores, chosen, choice is not None and choice.edge != ""))
    if not found:
        return []
    name = f"validation {metric}"
    about = (
        f"One run for every rate, seed {study.tuning.seed}, judged by {name} on examples set aside from training. "
        "A ring marks the rate that was taken (orange: at an edge of the grid), a red line one that failed."
    )
    rows = [
        (sweep.name, rate, score, rate == sweep.chosen)
        for sweep in found
        for rate, score in zip(sweep.rates.tolist(), sweep.scores.tolist(), strict=True)
    ]
    data = columns(("arm", "rate", metric, "chosen"), rows)
    drawn = Picture("sweeps", lambda: figures.sweeps(found, name, metric == "accuracy"), data)
    return [Shown("How the learning rates were chosen", about, drawn)]


def scale_picture(study: Study, comparisons: Sequence[Comparison]) -> Shown:
    percent = study.metric == "accuracy"
    target = signed_target(study)
    lines: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    titles = f"Test {study.metric}" + ", %" * percent, "Rounds to the target"
    for title in (*titles, "Bytes up and down, a client and round", "Seconds a round"):
        for arm in study.chosen:
            lines.setdefault(title, {})[arm.name] = [
                values_of(study, each, title, target) for each in comparisons if each.cell.arm is arm
            ]
    about = "Median of the seeds, and from the least to the most; a point that is missing was not reached or failed."
    rows = [
        (title, arm, setting, *values)
        for title, arms in lines.items()
        for arm, found in arms.items()
        for setting, values in zip(study.settings, found, strict=True)
    ]
    data = columns(("quantity", "arm", study.scale.key, "median", "least", "most"), rows)
    drawn = Picture("scaling", lambda: figures.scaling(study.settings, study.scale.key, lines), data)
    return Shown(f"Against {study.scale.key}", about, drawn)


def values_of(study: Study, each: Comparison, title: str, target: float) -> tuple[float, float, float]:
    """Median, least and most of one quantity of a cell; NaN where there is none."""
    if title.startswith("Test"):
        sign = 100 if study.metric == "accuracy" else -1
        values = [sign * final_score(study, result) for result in each.finals]
    elif title.startswith("Rounds"):
        values = [to_target(study, result, "rounds", target) for result in each.finals]
    elif title.startswith("Bytes"):
        values = [r.per_report("bytes_up") + r.per_report("bytes_down") for r in each.finals if r.reports]
    else:
        values = [float(r.curve["seconds"][-1] / max(1, r.curve["rounds"][-1])) for r in each.finals if r.ok]
    if not values:
        return math.nan, math.nan, math.nan
    found = spread(values)
    return found.median, found.least, found.most
