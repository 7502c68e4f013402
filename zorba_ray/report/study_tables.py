"""A study's table: an arm a line, medians over seeds with the least and the most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, flops, text_table
from zorba_ray.methods import has_gradients
from zorba_ray.studies.aggregate import Floats, Spread, common_budget, cost_to_reach, paired, score_at, spread
from zorba_ray.studies.collect import Comparison, Result
from zorba_ray.studies.spec import Study

NEVER = "—"
LESS = "†"


@dataclass(frozen=True)
class Table:
    """Text cells; `about` says what the columns are."""

    title: str
    about: str
    head: list[str]
    rows: list[list[str]]


def tables(study: Study, comparisons: Sequence[Comparison]) -> list[Table]:
    """What came out, what the target cost, what a client pays in one round, and what to know before comparing."""
    made = (outcome_table, paired_table, target_table, cost_table, notes_table)
    return [make(study, comparisons) for make in made]


def outcome_table(study: Study, comparisons: Sequence[Comparison]) -> Table:
    head = [*arm_head(study), "n", "Rate", f"Test {study.metric}", "At equal FLOPs", "At equal uploads",
            "Worst clients"]  # fmt: skip
    about = (
        f"Test {study.metric}{examples_text(comparisons)} after the last round: median [worst – best] over n seeds; "
        f"then at the largest forward FLOPs that every arm without gradients spent, and at the most uploaded numbers "
        f"that every arm sent{budget_text(study, comparisons)}. {LESS}: an arm with gradients that ended before it had "
        f"spent so much; its last. Worst clients: the last accuracy of the tenth of the clients with the "
        f"lowest, each on test data like its own, the median seed. A seed that diverged counts as worse than any "
        f"other. Rates marked ‹ or › are the lowest or highest that were tried."
    )
    rows = []
    for each in comparisons:
        row = arm_cells(study, each)
        if each.choice is None or not each.finals:
            rows.append([*row, "0", NEVER, failure(each), *[NEVER] * 3])
            continue
        ends = spread([final_score(study, result) for result in each.finals])
        equal = [at_equal(study, each, comparisons, name) for name in ("flops", "numbers_up")]
        rows.append([*row, f"{ends.count}", rate_text(each), show_spread(study, ends), *equal, worst_clients(each)])
    return Table("What came out", about, head, rows)


def examples_text(comparisons: Sequence[Comparison]) -> str:
    """On how many test examples, and what chance alone does to a share of so many."""
    curves = [r.curve["examples"] for each in comparisons for r in each.finals if len(r.curve.get("examples", ()))]
    sizes = sorted({int(curve[-1]) for curve in curves})
    if not sizes:
        return ""
    chance = f"; the draw of {sizes[0]:,} alone is worth ± {50 / math.sqrt(sizes[0]):.1f} points at 50 %"
    return f" (on {' or '.join(f'{size:,}' for size in sizes)} examples{chance})"


def paired_table(study: Study, comparisons: Sequence[Comparison]) -> Table:
    """Each arm against a named one, seed by seed: same data split, same draws, so what seeds share falls out."""
    names = [arm.name for arm in study.chosen]
    name = study.against if study.against in names else names[0]
    about = (
        f"Test {study.metric} of the last round less that of {name!r} on the same seed: mean, and the interval that "
        f"holds the true mean with 95 % confidence (Student, over seeds; not corrected for the number of arms). n: "
        f"seeds on which both ended well. Better: on how many of them."
    )
    rows = []
    for each in comparisons:
        other = next((o for o in comparisons if o.cell.arm.name == name and o.cell.setting == each.cell.setting), None)
        if each.cell.arm.name == name or other is None:
            continue
        mine, theirs = ({r.run.seed: final_score(study, r) for r in cell.finals} for cell in (each, other))
        seeds = sorted(mine.keys() & theirs.keys())
        found = paired([mine[seed] for seed in seeds], [theirs[seed] for seed in seeds])
        if found is None:
            rows.append([*arm_cells(study, each), "0", NEVER, NEVER, NEVER])
            continue
        interval = f"{change(study, found.low)} … {change(study, found.high)}" if found.count > 1 else NEVER
        better = f"{found.better} of {found.count}"
        rows.append([*arm_cells(study, each), f"{found.count}", change(study, found.mean), interval, better])
    return Table(f"Against {name}", about, [*arm_head(study), "n", "Difference", "95 % interval", "Better"], rows)


def change(study: Study, value: float) -> str:
    """A difference of scores, as a change of the metric."""
    return f"{100 * value:+.1f} points" if study.metric == "accuracy" else f"{-value:+.4f}"


COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("rounds", "Rounds", lambda x: f"{x:,.0f}"),
    ("flops", "Forward FLOPs", flops),
    ("backward_flops", "Backward FLOPs", lambda x: flops(x) if x else "0"),
    ("bytes_per_client", "Bytes a client", format_bytes),
    ("virtual_seconds", "Simulated time", duration),
)


def target_table(study: Study, comparisons: Sequence[Comparison]) -> Table:
    """Costs that no run has are left out: simulated time without a fleet, backward FLOPs of forward-only methods."""
    target = signed_target(study)
    done = [result for each in comparisons for result in each.finals if result.ok]
    shown = [cost for cost in COSTS if any(np.nan_to_num(result.curve[cost[0]]).any() for result in done)]
    about = (
        f"Until the first evaluation with test {study.metric} {target_text(study)}: how many seeds reached it, and the "
        f"median seed's rounds, FLOPs of all clients, bytes up and down of the mean client"
        f"{', and seconds on the simulated fleet' * any(name == 'virtual_seconds' for name, _, _ in shown)}. {NEVER}: "
        f"the median seed did not reach it."
    )
    rows = []
    for each in comparisons:
        row = arm_cells(study, each)
        if not each.finals:
            rows.append([*row, NEVER, *[NEVER] * len(shown)])
            continue
        costs = [spread([to_target(study, r, name, target) for r in each.finals]) for name, _, _ in shown]
        rounds = spread([to_target(study, result, "rounds", target) for result in each.finals])
        texts = [cost_text(cost, show) for cost, (_, _, show) in zip(costs, shown, strict=True)]
        rows.append([*row, f"{rounds.finite} of {rounds.count}", *texts])
    head = [*arm_head(study), "Reached", *(title for _, title, _ in shown)]
    return Table(f"What {target_text(study)} cost", about, head, rows)


def signed_target(study: Study) -> float:
    """As a score: more is better."""
    return study.target if study.metric == "accuracy" else -study.target


def target_text(study: Study) -> str:
    return f"{'≥' if study.metric == 'accuracy' else '≤'} {show_score(study, signed_target(study))}"


def arm_head(study: Study) -> list[str]:
    return ["Arm", study.scale.key.rpartition(".")[2]] if study.scale.key else ["Arm"]


def arm_cells(study: Study, each: Comparison) -> list[str]:
    return [each.cell.arm.name, each.cell.setting] if study.scale.key else [each.cell.arm.name]


def rate_text(each: Comparison) -> str:
    assert each.choice is not None
    return f"{each.choice.rate:g}" + {"": "", "lowest": " ‹", "highest": " ›"}[each.choice.edge]


def failure(each: Comparison) -> str:
    """Why there is nothing to show."""
    statuses = {result.status for result in (*each.sweep, *each.finals, *each.failed)}
    return " / ".join(sorted(statuses - {"ok"})) or "not finished"


def worst_clients(each: Comparison) -> str:
    """A dash where the records do not have it, as for language tasks."""
    lasts = [float(r.curve["client_accuracy_worst"][-1]) if r.ok else -math.inf for r in each.finals]
    median = spread(lasts).median if lasts and not any(map(math.isnan, lasts)) else -math.inf
    return f"{100 * median:.1f} %" if math.isfinite(median) else NEVER


def score(study: Study, result: Result) -> Floats:
    """The curve of the study's metric, as more is better."""
    values = result.curve[study.metric]
    return values if study.metric == "accuracy" else -values


def final_score(study: Study, result: Result) -> float:
    if not result.ok:
        return -math.inf
    last = float(score(study, result)[-1])
    return -math.inf if math.isnan(last) else last


def to_target(study: Study, result: Result, cost: str, target: float) -> float:
    """Of runs that diverged too: they may have reached it before."""
    if not len(result.curve.get("rounds", ())):
        return math.inf
    cost_there = cost_to_reach(result.curve[cost], score(study, result), target)
    return math.inf if math.isnan(cost_there) else cost_there


def budget_of(comparisons: Sequence[Comparison], setting: str, cost: str) -> float | None:
    """The largest cost that every finished run at this value of the scale spent. Runs with gradients need few rounds:
    their forward FLOPs limit nobody, unless there are no others."""
    runs = [r for each in comparisons if each.cell.setting == setting for r in each.finals if r.ok]
    if cost == "flops":
        runs = [r for r in runs if not has_gradients(r.run.config)] or runs
    return common_budget([float(r.curve[cost][-1]) for r in runs])


def at_equal(study: Study, each: Comparison, comparisons: Sequence[Comparison], cost: str) -> str:
    budget = budget_of(comparisons, each.cell.setting, cost)
    if budget is None:
        return NEVER
    ends = [float(r.curve[cost][-1]) for r in each.finals if r.ok]
    less = any(end < budget for end in ends)
    scores = [
        score_at(r.curve[cost], score(study, r), min(budget, float(r.curve[cost][-1]))) if r.ok else -math.inf
        for r in each.finals
    ]
    return show_spread(study, spread(scores)) + f" {LESS}" * less


def budget_text(study: Study, comparisons: Sequence[Comparison]) -> str:
    """The common budgets, where there is one of each."""
    if study.scale.key:
        return ""
    work, numbers = (budget_of(comparisons, "", name) for name in ("flops", "numbers_up"))
    return "" if work is None or numbers is None else f" ({flops(work)}; {numbers:,.0f} numbers)"


def show_score(study: Study, value: float) -> str:
    if not math.isfinite(value):
        return NEVER
    return f"{100 * value:.1f} %" if study.metric == "accuracy" else f"{-value:.4g}"


def show_spread(study: Study, values: Spread) -> str:
    """Median [worst – best]; where these look alike, the number alone."""
    low, high = (show_score(study, value).removesuffix(" %") for value in (values.least, values.most))
    if low == high:
        return show_score(study, values.median)
    return f"{show_score(study, values.median)} [{low} – {high}]"


def cost_text(values: Spread, show: Callable[[float], str]) -> str:
    return show(values.median) if math.isfinite(values.median) else NEVER


def cost_table(study: Study, comparisons: Sequence[Comparison]) -> Table:
    head = [*arm_head(study), "Up", "Down", "Forward", "Backward", "VRAM, most", "VRAM, median", "Seconds a round"]
    about = (
        "Means over clients, rounds and seeds of what one client sends, receives and computes in one round; VRAM of a "
        "client by the allocator's model, of the client that needs most and of the median client; seconds of the "
        "simulation, all clients one after the other on one core (others ran beside it)."
    )
    rows = []
    for each in comparisons:
        done = [result for result in each.finals if result.reports]
        if not done:
            rows.append([*arm_cells(study, each), *[NEVER] * 7])
            continue
        mean = {name: sum(r.totals[name] for r in done) / sum(r.reports for r in done) for name in done[0].totals}
        vram = [sorted(r.vram) for r in done]
        pace = [r.curve["seconds"][-1] / max(1, r.curve["rounds"][-1]) for r in done if len(r.curve["rounds"])]
        row = [format_bytes(mean["bytes_up"]), format_bytes(mean["bytes_down"]), flops(mean["flops"])]
        row += [flops(mean["backward_flops"]) if mean["backward_flops"] else "0"]
        row += [format_bytes(max(v[-1] for v in vram)), format_bytes(spread([v[len(v) // 2] for v in vram]).median)]
        rows.append([*arm_cells(study, each), *row, f"{spread(pace).median:.3g}" if pace else NEVER])
    return Table("What a client pays in one round", about, head, rows)


def notes_table(study: Study, comparisons: Sequence[Comparison]) -> Table:
    """What a reader must know before comparing: budgets that were lifted, runs that failed."""
    rows = []
    for each in comparisons:
        notes = []
        if each.cell.arm.lifted:
            notes.append("budgets lifted so that every client may tune every block")
        budget = budget_of(comparisons, each.cell.setting, "flops")
        if budget is not None and any(r.curve["flops"][-1] < budget for r in each.finals if r.ok):
            notes.append(f"{LESS} ended with fewer forward FLOPs than the others are compared at")
        if each.choice is not None and each.choice.edge:
            notes.append(f"learning rate at the {each.choice.edge} that was tried: a better one may lie beyond")
        finals = [*each.finals, *(result for result in each.failed if result.run.phase == "final")]
        for phase, results in (("sweep", each.sweep), ("final", finals)):
            for status in sorted({r.status for r in results} - {"ok"}):
                which = [r for r in results if r.status == status]
                why = which[0].message.splitlines()[0] if which[0].message else ""
                notes.append(f"{phase}: {len(which)} of {len(results)} {status}" + (f" ({why})" if why else ""))
        if notes:
            rows.append([*arm_cells(study, each), "; ".join(notes)])
    return Table("Notes", "", [*arm_head(study), "Note"], rows)


def as_text(each: Table) -> str:
    if not each.rows:
        return ""
    if each.head[-1] == "Note":
        return each.title + "\n" + "\n".join(f"{', '.join(row[:-1])}: {row[-1]}" for row in each.rows) + "\n"
    return f"{each.title}\n{text_table(each.head, each.rows)}\n"


def as_markdown(each: Table) -> str:
    if not each.rows:
        return ""
    lines = [each.head, ["---", *["---:"] * (len(each.head) - 1)], *each.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    about = f"{each.about}\n\n" if each.about else ""
    return f"### {each.title}\n\n{about}{body}\n"


TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---", "–": "--", "−": "$-$",
    "†": r"\textdagger{}", "…": r"\dots{}", "‹": r"\guilsinglleft{}", "›": r"\guilsinglright{}", "≥": r"$\geq$",
    "≤": r"$\leq$", "±": r"$\pm$", "×": r"$\times$",
}  # fmt: skip


def as_latex(each: Table) -> str:
    """A tabular of the package booktabs, with what the columns are as its caption. Notes are no table of a paper."""
    if not each.rows or each.head[-1] == "Note":
        return ""
    lines = [" & ".join(map(tex, line)) + r" \\" for line in (each.head, *each.rows)]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{tex(each.title)}. {tex(each.about)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(each.head) - 1)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)
