"""Does the allocation matter? Rounds to reach a target, for ZorBA's plan and each alternative, over several seeds.

    python analysis/study_allocation.py embedded --json embedded.json
    ZORBA_RAY_SHARED=… python analysis/study_allocation.py stories_sst2 --json stories.json

Every plan has the same data, budgets, directions and learning rate. A plan that breaks a budget or the coverage is
listed as not feasible; `full*` is full activation with budgets that hold it, for reference. Runs are in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import load_config
from zorba_ray.results.schema import EvaluationRecord
from zorba_ray.rounds.local import LocalBackend
from zorba_ray.rounds.prepare import build_host, prepare
from zorba_ray.rounds.session import Session

ROOM = "clients.budgets.classes=[{name: all, share: 1, budget: 1 GiB}]"
PLANS: dict[str, list[str]] = {
    "zorba": ["allocation.plan=zorba"],
    "zorba ε=0": ["allocation.plan=zorba", "allocation.epsilon=[0,0,0]"],
    "zorba estimated": ["allocation.plan=zorba", "allocation.statistics=estimated"],
    "one_each": ["allocation.plan=one_each"],
    "random": ["allocation.plan=random"],
    "cyclic": ["allocation.plan=cyclic"],
    "greedy": ["allocation.plan=greedy"],
    "top": ["allocation.plan=top"],
    "bottom": ["allocation.plan=bottom"],
    "full": ["allocation.plan=full"],
    "full*": ["allocation.plan=full", ROOM],
}


@dataclass(frozen=True)
class Task:
    """What is run, until `reached` or for `rounds` rounds."""

    config: str | None
    overrides: list[str]
    metric: str  # "accuracy" (at least the target) or "loss" (at most the target)
    target: float
    rounds: int

    def reached(self, record: EvaluationRecord) -> bool:
        value = getattr(record, self.metric)
        return value >= self.target if self.metric == "accuracy" else value <= self.target


TASKS = {
    "embedded": Task(None, ["step.lr=1e-3", "evaluation.every=5", "evaluation.examples=500"], "accuracy", 0.9, 150),
    "stories_sst2": Task("stories_sst2", ["evaluation.every=5", "evaluation.examples=100"], "loss", 3.75, 80),
}


def rounds_to_target(task: Task, overrides: list[str], seed: int) -> int | None:
    """Rounds until the first evaluation that reaches the target; None where it is never reached."""
    config = load_config(task.config, [*task.overrides, *overrides, f"seed={seed}", f"rounds={task.rounds}"])
    prepared = prepare(config)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(config, prepared, Path(folder) / "run", resume=False)
        backend = LocalBackend(build_host(prepared.base, "cpu"), prepared.test_examples)
        for event in session.events(backend):
            if isinstance(event, EvaluationRecord) and task.reached(event):
                return event.round
    return None


def row(name: str, task: Task, results: list[int | None]) -> str:
    """Median and range over the seeds; a seed that never reached the target counts as more than all rounds."""
    counted = [task.rounds + 1 if rounds is None else rounds for rounds in results]
    median = statistics.median(counted)
    shown = [f"> {task.rounds}" if rounds is None else str(rounds) for rounds in results]
    middle = f"> {task.rounds}" if median > task.rounds else f"{median:g}"
    return f"{name:<18}{middle:>8}   {', '.join(shown)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[arguments.task]
    sign = "≥" if task.metric == "accuracy" else "≤"
    print(f"{arguments.task}: rounds until test {task.metric} {sign} {task.target:g}, {arguments.seeds} seeds")
    print(f"{'plan':<18}{'median':>8}   each seed")
    found: dict[str, list[int | None] | str] = {}
    for name, overrides in PLANS.items():
        try:
            results = [rounds_to_target(task, overrides, seed) for seed in range(arguments.seeds)]
        except ConfigError as error:
            found[name] = f"not feasible: {error}"
            print(f"{name:<18}{'–':>8}   not feasible under these budgets", flush=True)
            continue
        found[name] = results
        print(row(name, task, results), flush=True)
    if arguments.json:
        body = {"task": arguments.task, "metric": task.metric, "target": task.target, "rounds": found}
        arguments.json.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
