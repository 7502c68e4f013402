"""Does the merit predict? `python analysis/study_progress.py STUDY_FOLDER OUT [--directions 64]`.

STUDY_FOLDER is that of `python -m zorba_ray.study progress` (or progress_agnews), whose arms are plans of all kinds.
For each of them: the merit that the allocation gives it, with statistics estimated from many probes before the first
round, beside the fall of the loss that was measured after the study's rounds at the best rate of its grid. OUT.md has
both, the best rates and their rank correlations; OUT.json the numbers, OUT.png one against the other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from zorba_ray.allocation import Bound, Instance, without_program
from zorba_ray.config.words import text_table
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import load_problem
from zorba_ray.runs.simulate import simulate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """A plan, as predicted and as measured."""

    name: str
    merit: float
    rate: float  # best, by the merit
    fall: float  # of the loss, at the best rate of the sweep: median of the final runs, of other seeds
    chosen: float  # fall of the run of the sweep that chose this rate
    best: float  # that rate
    edge: bool  # which is an end of the grid
    seeds: list[float]  # falls of the final runs
    worth: list[float]  # of the fall that the best plan's merit predicts, block by block: D_l


def statistics(config: Path, directions: int) -> dict[str, Floats]:
    """From probes of all clients, before the first round."""
    with tempfile.TemporaryDirectory() as folder:
        every = load_config(config, []).clients.count
        asked = ["rounds=1", "allocation.statistics=estimated", "allocation.plan=full", "allocation.rows=[]",
                 f"allocation.probe_clients={every}", f"allocation.probe_directions={directions}",
                 "evaluation.examples=50", "seed=77"]  # fmt: skip
        simulate(load_config(config, asked), Path(folder) / "run")
        found = json.loads((Path(folder) / "run" / "statistics.json").read_text(encoding="utf-8"))
    return {name: np.array(found[name]) for name in ("gradient", "batch_variance", "client_variance", "smoothness")}


def falls(folder: Path, phase: str) -> list[tuple[float, float]]:
    """Rate and fall of the loss of each finished run of a phase."""
    found = []
    for run in sorted(folder.glob(f"{phase}-*/summary.json")):
        summary = json.loads(run.read_text(encoding="utf-8"))
        rate = float(run.parent.name.split("-lr")[1].split("-seed")[0])
        last = summary["test_loss_last"] if summary["rounds_done"] == summary["rounds"] else np.inf
        found.append((rate, summary["test_loss_first"] - last))
    return sorted(found)


def arm(folder: Path, known: dict[str, Floats], base: Instance) -> Arm | None:
    """One of the study's, or nothing where its sweep is not finished."""
    sweep = falls(folder, "sweep")
    if len(sweep) < 2:
        return None
    config = load_config(next(folder.glob("sweep-*/config.yaml")), [])
    instance = replace(base, **known, rotate=config.allocation.rotate, horizon=config.allocation.horizon)
    plan = without_program(instance, config.allocation, 0)
    worth = Bound(instance).of(plan.matrix)
    at = int(np.argmax([fall for _, fall in sweep]))
    seeds = [fall for _, fall in falls(folder, "final")]
    return Arm(
        folder.name, plan.merit, plan.rate, float(np.median(seeds or [sweep[at][1]])), sweep[at][1],
        sweep[at][0], at in (0, len(sweep) - 1), seeds, worth.gain.tolist(),
    )  # fmt: skip


def rank_correlation(one: Floats, other: Floats) -> float:
    ranks = [each.argsort().argsort().astype(np.float64) for each in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def draw(arms: list[Arm], correlation: float, path: Path) -> None:
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for each in arms:
        axes.plot(each.merit, each.fall, "o", color="#1f6f8b")
        axes.annotate(each.name.replace("-", " "), (each.merit, each.fall), textcoords="offset points", xytext=(5, 3),
                      fontsize=7)  # fmt: skip
    axes.set(xscale="log", xlabel="merit before the first round", ylabel="fall of the loss, measured at the best rate")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.12)
    axes.set_title(f"{len(arms)} plans, rank correlation {correlation:.2f}", loc="left", fontsize=10)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--directions", type=int, default=64)
    options = parser.parse_args()
    folders = sorted(each for each in (options.study / "runs").iterdir() if each.is_dir())
    config = next(folders[0].glob("*/config.yaml"))
    known = statistics(config, options.directions)
    base = load_problem(load_config(config, [])).instance
    arms = [each for each in (arm(folder, known, base) for folder in folders) if each is not None]
    arms.sort(key=lambda each: -each.fall)
    merits, measured = (np.array([getattr(each, name) for each in arms]) for name in ("merit", "fall"))
    correlation = rank_correlation(merits, measured)
    rows = [
        [each.name, f"{each.merit:.4g}", f"{each.rate:.3g}", f"{each.fall:.4f}", f"{each.best:g}{'*' * each.edge}",
         ", ".join(f"{fall:.4f}" for fall in each.seeds)]
        for each in arms
    ]  # fmt: skip
    blocks = [[name, *(f"{value:.3g}" for value in values)] for name, values in known.items()]
    means, chosen, predicted, best = (
        np.array([float(np.mean(each.seeds or [each.fall])) for each in arms]),
        *(np.array([getattr(each, name) for each in arms]) for name in ("chosen", "rate", "best")),
    )
    text = "\n\n".join([
        text_table(["Plan", "Merit", "Its rate", "Measured fall", "Best rate (* at an end)", "Seeds"], rows),
        f"Rank correlation of merit and fall, the median of its seeds: {correlation:.3f}; with their mean "
        f"{rank_correlation(merits, means):.3f}, with the one run that chose the rate "
        f"{rank_correlation(merits, chosen):.3f}; of the best rates {rank_correlation(predicted, best):.3f}",
        text_table(["Statistic, by block", *map(str, range(base.blocks))], blocks),
    ])  # fmt: skip
    print(text)
    command = f"python analysis/study_progress.py STUDY_FOLDER {options.out.name} --directions {options.directions}"
    options.out.with_suffix(".md").write_text(f"`{command}`\n```\n{text}\n```\n", encoding="utf-8")
    data = {"arms": [asdict(each) for each in arms], "statistics": {k: v.tolist() for k, v in known.items()},
            "correlation": correlation}  # fmt: skip
    options.out.with_suffix(".json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    draw(arms, correlation, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
