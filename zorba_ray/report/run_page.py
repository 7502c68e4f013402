"""report.html: a run on one page that can be mailed, printed and read in ten years. Made from the run folder alone."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import duration, flops, percent
from zorba_ray.report import again, changes, run_figures, targets
from zorba_ray.report.curves import Series, switchable
from zorba_ray.report.fleet import pictures
from zorba_ray.report.fleet import told as fleet_told
from zorba_ray.report.gather import Run, Spread, read_run
from zorba_ray.report.memory_tables import saving, told
from zorba_ray.report.page import code, facts, figure, folded, page, paragraph, section, table, tiles
from zorba_ray.report.pictures import inline
from zorba_ray.runs.folder import CONFIG, resume_line, write_whole
from zorba_ray.runs.source import CHANGED
from zorba_ray.runs.state import GOING
from zorba_ray.runs.summary import Summary

FILE = "report.html"
MEASURED = {"allocated_bytes": "Measured, allocated", "measured_bytes": "Measured, reserved"}


def write_report(run_dir: Path, trusted: bool = False) -> Path:
    """Make the report of a run, from its folder; the path of what was written. `trusted` as in `read_run`."""
    return write_page(read_run(run_dir, trusted))


def write_page(run: Run) -> Path:
    path = run.folder / FILE
    write_whole(path, render(run))
    return path


def render(run: Run) -> str:
    parts = [header(run), paragraph(lead(run.summary)), *warnings(run.summary), headline(run)]
    if len(run.rounds.get("round", ())):
        parts += [learning(run), *to_target(run), fleet_section(run), allocation(run), budgets(run), *data(run)]
        parts += [traffic(run), scalars(run)]
    else:
        parts += [paragraph("No round was finished.", "note"), allocation(run), budgets(run), *data(run)]
    return page(f"{run.summary.name} · zorba_ray", [*parts, reproduce(run), folds(run)])


def header(run: Run) -> str:
    summary, kind = run.summary, "good" if run.state.words in ("complete", GOING) else "bad"
    state = f'<span class="state {kind}">{escape(run.state.words)}</span>'
    clients = f"{summary.clients:,} client" + "s" * (summary.clients != 1)
    words = [f"method {summary.method}", f"model {summary.model}", f"task {summary.task}", clients,
             f"seed {summary.seed}"]  # fmt: skip
    return f'<header><h1>{escape(summary.name)}{state}</h1><div class="soft">{escape(" · ".join(words))}</div></header>'


def lead(summary: Summary) -> str:
    """What came out, in two sentences with numbers."""
    rounds = f"In {summary.rounds_done:,} round" + "s" * (summary.rounds_done != 1)
    first, last = summary.accuracy_first, summary.accuracy_last
    came = "nothing was evaluated"
    if first is not None and last is not None:
        came = f"test accuracy went from {percent(first)} to {percent(last)}"
    fleet = "" if summary.virtual_seconds is None else f", {duration(summary.virtual_seconds)} on the simulated fleet"
    return (
        f"{rounds} of {summary.clients:,} clients {came}. They sent {format_bytes(summary.bytes_up)}, received "
        f"{format_bytes(summary.bytes_down)} and computed {flops(summary.flops)} forward{fleet}."
    )


def warnings(summary: Summary) -> list[str]:
    stopped = [f"Stopped after {summary.rounds_done} of {summary.rounds} rounds: {summary.stopped}"]
    return [paragraph(text, "note") for text in stopped * bool(summary.stopped) + summary.notes]


def headline(run: Run) -> str:
    summary = run.summary
    entries = []
    if summary.accuracy_first is not None and summary.accuracy_last is not None:
        gain = 100 * (summary.accuracy_last - summary.accuracy_first)
        trained = f"{gain:+.1f} points from {percent(summary.accuracy_first)}"
        below = trained if summary.rounds_done else "before the first round"
        entries.append(("Test accuracy", percent(summary.accuracy_last), below))
    if summary.client_accuracy is not None and summary.client_accuracy_worst is not None:
        worst = f"worst tenth of them {percent(summary.client_accuracy_worst)}"
        entries.append(("Accuracy per client", percent(summary.client_accuracy), worst))
    if summary.loss_first is not None and summary.loss_last is not None:
        entries.append(("Training loss", f"{summary.loss_last:.4f}", f"from {summary.loss_first:.4f}"))
    rounds = f"{summary.rounds_done:,}" if summary.rounds_done == summary.rounds else (
        f"{summary.rounds_done:,} of {summary.rounds:,}"
    )  # fmt: skip
    pace = f", {summary.seconds_rounds / summary.rounds_done:.2g} s a round" if summary.rounds_done else ""
    entries.append(("Rounds", rounds, duration(summary.seconds) + pace))
    entries.append(("Sent up", format_bytes(summary.bytes_up), per_report(summary.bytes_up, run)))
    entries.append(("Sent down", format_bytes(summary.bytes_down), per_report(summary.bytes_down, run)))
    entries.append(("Forward work", flops(summary.flops), "floating-point operations of the clients"))
    if summary.backward_flops > 0:
        entries.append(("Backward work", flops(summary.backward_flops), "of training with gradients"))
    return tiles(entries)


def per_report(count: int, run: Run) -> str:
    reports = sum(each.reports for each in run.classes)
    return f"{format_bytes(count / reports)} a client and round" if reports else ""


def learning(run: Run) -> str:
    about = "Against what it cost; values stand under the pointer."
    return section("Learning", about, switchable([Series("this run", [run.curves])]))


def to_target(run: Run) -> list[str]:
    """What it took to get so far; nothing where accuracy never rose and none was asked for."""
    wanted = [run.config.stop.accuracy] if run.config.stop.accuracy else []
    head, rows = targets.table_of([Series("this run", [run.curves])], wanted)
    about = (
        "Until the first evaluation with so much test accuracy: half of the gain, nine tenths of it, and what the run "
        "was to reach, if anything. Bytes are those of all clients, up and down."
    )
    return [section("What it cost to get there", about, table(head, rows))] if rows else []


def fleet_section(run: Run) -> str:
    """Who computed, waited, was late or away, and what went wrong."""
    fleet, made = run.fleet, pictures(run.fleet)
    rows = world(run)
    if not made:
        about = f"All {run.summary.clients:,} clients took part in every round, and all of their reports counted."
        return section("Fleet", about, *([facts(rows)] if rows else []))
    about = "Who took part in each round and what became of it."
    if fleet.clock:
        about += f" On the simulated fleet a counted client waited for the others {percent(fleet.idle)} of its rounds."
    start, stop = fleet.close
    close = f"Rounds {start + 1} to {stop}, those in which most went wrong, or the first; {len(fleet.rows)} clients."
    shown = [figure(inline(made[0]), about), figure(inline(made[1]), f"{close} {about}", close)]
    parts = [facts(rows)] * bool(rows) + shown
    if fleet.troubles:
        head = ["Status", "Reports", "Clients", "Which", "Rounds"]
        parts.append(table(head, map(fleet_told, fleet.troubles)))
    return section("Fleet", about, *parts)


def world(run: Run) -> list[tuple[str, str]]:
    """Of the simulated world around the clients, what is more than everybody at once."""
    summary, rounds, config = run.summary, run.rounds, run.config
    names = ("participants", "reported", "late", "dropped", "excluded", "stale")
    total = {name: int(rounds[name].sum()) for name in names}
    rows = []
    if total["reported"] < summary.clients * summary.rounds_done:
        chosen = rounds["participants"]
        count = f"{chosen.min():,}" + f" to {chosen.max():,}" * bool(chosen.max() > chosen.min())
        rows.append(("Chosen in a round", f"{count} of {summary.clients:,} clients"))
        rows.append(("Counted in their round", f"{total['reported']:,} of {total['participants']:,} chosen"))
    told = {
        "late": "Too late for their round", "stale": "… of them in the step of a later one",
        "dropped": "Dropped out after downloading", "excluded": "Left out (not finite, out of memory, outliers)",
    }  # fmt: skip
    rows += [(words, f"{total[name]:,}") for name, words in told.items() if total[name]]
    if config.faults.byzantine > 0:
        rows.append(("Liars", f"{percent(config.faults.byzantine)} of the clients, {config.faults.lie}"))
    if summary.virtual_seconds is not None:
        here = duration(summary.seconds)
        rows.append(("Time on the simulated fleet", f"{duration(summary.virtual_seconds)}; here {here}"))
    if summary.epsilon is not None:
        privacy = config.privacy
        rows.append(("Privacy spent", f"ε = {summary.epsilon:.4g} at δ = {privacy.delta:g}, σ = {privacy.noise:g}, "
                                      f"C = {privacy.clip:g}; central, of whole clients"))  # fmt: skip
    return rows


def allocation(run: Run) -> str:
    about = (
        f"Which blocks each client tunes, chosen by {run.plan.name}: {percent(run.plan.matrix.mean())} of all client × "
        "block pairs. Clients are grouped by budget, the smallest first."
    )
    parts = [figure(inline(run_figures.allocation(run)), f"Map of clients and blocks. {about}"), proof(run)]
    parts += [paragraph(text, "soft") for text in run.plan.messages]
    if run.config.allocation.rotate:
        parts.append(paragraph("Each round, clients of equal budget take each other's rows in turn.", "soft"))
    if later := run_figures.changed(run):
        told = f"The plan was made anew {len(run.plans) - 1} times; above is the first."
        parts += [paragraph(told), figure(inline(later[0]), told), table(*changes.table_of(run.plans))]
    return section("Allocation", about, *parts)


def proof(run: Run) -> str:
    """The program's levels, the best found and a limit; for plans that no program made, what they come to."""
    plan = run.plan
    if plan.levels:
        head = ["Objective", "Best found", "No plan below", "Gap", "Allowed", "In the plan", "Found by", "Time"]
        rows = []
        for level in plan.levels:
            values = [measure(level.objective, x, run) for x in (level.value, level.bound, level.limit, level.final)]
            values.insert(2, f"{100 * level.gap:.2f} %")
            rows.append([level.objective, *values, level.used, duration(level.seconds)])
        return table(head, rows)
    rounds = 1 / plan.merit if plan.merit else float("inf")
    total = [("convergence", rounds), ("vram", plan.vram), ("compute", plan.compute)]
    if run.config.allocation.vram == "worst":
        total[1] = ("vram", plan.worst)
    return table(["Objective", "In the plan"], ([name, measure(name, value, run)] for name, value in total))


def measure(objective: str, value: float, run: Run) -> str:
    """An objective's value in its own unit."""
    if objective == "vram":
        return format_bytes(value) if run.config.allocation.vram == "total" else percent(value)
    return flops(value) if objective == "compute" else f"{value:.4g} rounds"


def budgets(run: Run) -> str:
    label = "; ".join(f"{c.name}: {format_bytes(c.predicted_most)} of {format_bytes(c.budget)}" for c in run.classes)
    about = (
        "VRAM of one client by the allocator's model. The mark is the budget; the solid bar is the client of the class "
        "that needs least, the lighter one that which needs most."
    )
    parts = [figure(inline(run_figures.memory(run)), label), *memory_told(run), class_table(run)]
    return section("Memory and work by budget class", about, *parts)


def data(run: Run) -> list[str]:
    """Who has which data, where the run kept it."""
    if run.dealt is None:
        return []
    sizes = run.dealt.sizes
    about = (
        f"Dealt out {run.config.clients.partition}: {sizes.min():,} to {sizes.max():,} training examples a client, "
        f"median {np.median(sizes):,.0f}"
    )
    if run.dealt.labels:
        about += f"; their labels differ from all clients' by {percent(run.dealt.skew)} on average"
    return [section("Data", f"{about}.", figure(inline(run_figures.partition(run)[0]), about))]


def memory_told(run: Run) -> list[str]:
    """Of the client of each class that needs most, under the first plan: what it needs for what, a column a class."""
    if not run.memory:
        rows = [[each.name, format_bytes(each.predicted_most), format_bytes(each.budget)] for each in run.classes]
        told_so = paragraph("What clients hold was not traced in this run.", "soft")
        return [table(["Class", "Predicted", "Budget"], rows), told_so]
    classes = [each for each in run.classes if each.name in run.memory]
    some = any(each.measured for each in classes)
    columns = []
    for each in classes:
        row = run.memory[each.name]
        beside = dict.fromkeys(MEASURED.values(), "–") if some else {}
        beside |= {MEASURED[name]: format_bytes(most) for name, most in each.measured.items()}
        saved = {f"Saves against {other}": saving(row, other) for other in row.saving_against}
        columns.append(told(row, beside) | saved)
    lines = [[name, *(column[name] for column in columns)] for name in columns[0]]
    about = (
        "The client of each class that needs most, under the first plan, and what its VRAM is for. “Traced” is the "
        "peak of the same round, followed on a model without numbers; “Bus” is what crosses to and from host memory."
    )
    if some:
        gpus = ", ".join(run.summary.environment.get("gpus", [])) or "a GPU"
        about += (
            f" “Measured” is the most that any client of the class took in its own process on {gpus}, with the CUDA "
            "context: of it allocated, and reserved, which is what its cap binds."
        )
    return [paragraph(about, "soft"), table(["", *(each.name for each in classes)], lines)]


def class_table(run: Run) -> str:
    head = ["Class", "Clients", "Blocks tuned", "Reports", "Mean loss", "Block passes", "FLOPs", "Up", "Down",
            "Seconds"]  # fmt: skip
    rows = []
    for each in run.classes:
        row = [each.name, f"{len(each.members):,}", f"{each.active_blocks:.1f}", f"{each.reports:,}"]
        if each.reports:
            mean = {key: value / each.reports for key, value in each.sums.items()}
            row += [f"{mean['loss']:.4f}", f"{mean['forwards']:,.0f}", flops(mean["flops"])]
            row += [format_bytes(mean["bytes_up"]), format_bytes(mean["bytes_down"]), f"{mean['seconds']:.2g}"]
        else:
            row += ["–"] * 6
        rows.append(row)
    return table(head, rows) + paragraph("From “Mean loss” on, all are means over the class's reports.", "soft")


def traffic(run: Run) -> str:
    rounds = run.rounds
    picture = inline(run_figures.traffic(run))
    up, down = format_bytes(rounds["bytes_up"].sum()), format_bytes(rounds["bytes_down"].sum())
    about = (
        "Clients send scalars and receive the coefficients of the steps that they missed; directions are regenerated "
        "from the seed on both sides."
    )
    return section("Communication", about, figure(picture, f"Bytes over the rounds, in the end {up} up, {down} down"))


def scalars(run: Run) -> str:
    picture = inline(run_figures.scalars(run))
    finite = run.scalars[np.isfinite(run.scalars)].astype(np.float64)
    sampled = f", of which {len(run.scalars):,} are shown" if len(run.scalars) < run.scalars_count else ""
    shown = f"{run.scalars_count:,}{sampled}"
    spread = f" Standard deviation {finite.std():.3g}." if len(finite) else ""
    about = f"Each report is one number ρ for each direction: {shown}.{spread}"
    parts = [figure(picture, f"Distribution of the scalars. {about}")]
    if run.spread is not None:
        told = spread_told(run.spread)
        parts += [paragraph(told), figure(inline(run_figures.spread(run)[0]), told)]
    return section("Scalars", about, *parts)


def spread_told(spread: Spread) -> str:
    """What the comparison of predicted and observed mean squares says."""
    ratio = float(np.median(spread.observed / spread.predicted))
    source = "estimated from probes before the first round" if spread.estimated else "those of the config"
    told = f"Mean square of a client's scalars: observed / predicted by the bound's statistics has median {ratio:.3g}."
    if spread.estimated:
        return f"{told} The statistics are {source}; gradients change as training goes on."
    return f"{told} The statistics are {source}, so only ratios between clients mean something."


def reproduce(run: Run) -> str:
    summary, folder = run.summary, run.folder
    rows = [
        ("Ledger", f"{format_bytes(summary.ledger_bytes)}, {summary.rounds_done:,} rounds"),
        ("SHA-256 of the ledger", summary.ledger_sha256),
        ("SHA-256 of the model", summary.model_sha256 or "not known, see the notes"),
        ("Seed", f"{summary.seed}"),
        ("zorba_ray", f"{summary.version}, {commit_told(summary)}"),
        ("Libraries", spell(summary.environment.get("libraries", {}))),
    ]
    about = (
        "The ledger holds every step as seeds and coefficients: with the base model it is the tuned model, bit for "
        "bit. The same config and seed give the same ledger."
    )
    run_name = shlex.quote(str(folder))
    elsewhere = " out=" * bool(run.config.out)  # where the config names this very folder
    lines = [f"# this run again\npython -m zorba_ray.run {shlex.quote(str(folder / CONFIG))}{elsewhere}",
             f"# … or without its folder\n{again.install(summary)}\n{again.line(run.config)}"]  # fmt: skip
    if summary.rounds_done < summary.rounds:
        lines.insert(0, f"# go on where it ended\n{resume_line(folder)}")
    lines.append(f"# the tuned model, rebuilt from base and ledger, and checked\npython -m zorba_ray.replay {run_name}")
    lines.append(
        "# its records, in Python\n"
        f"from zorba_ray import open_run; run = open_run({str(folder)!r})  "
        "# run.rounds, run.clients, run.evaluations: Ray Datasets; run.table('rounds'): Arrow"
    )
    return section("Reproduce", about, facts(row for row in rows if row[1]), code("\n\n".join(lines)))


def commit_told(summary: Summary) -> str:
    """From which source the run was, as far as it was known."""
    commit = str(summary.environment.get("commit", ""))
    if not commit:
        return "installed, or of a commit that nobody could tell"
    changed = " and files that were changed since" * commit.endswith(CHANGED)
    return f"git commit {commit.partition(' ')[0]}{changed}"


def folds(run: Run) -> str:
    environment = [(name, spell(value)) for name, value in run.summary.environment.items()]
    rows = [("zorba_ray", run.summary.version), ("placement", run.summary.placement), *environment]
    return (
        '<div class="folds">' + folded("Config", code(run.config_text)) + folded("Environment", facts(rows)) + "</div>"
    )


def spell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
