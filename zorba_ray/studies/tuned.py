"""The sweeps of a study by Ray Tune: a Tuner for each arm, whose trials are the study's own runs.

A trial stands in a placement group of its own, laid out as a seat of our own sweep is, and carries its run with the
same code. What Tune logs is in tune/ of the study's folder; the choice of a rate is made from the runs, as ever.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zorba_ray.records.schema import EvaluationRecord
from zorba_ray.studies.carry import LOST, carry
from zorba_ray.studies.cells import Cell, Run, first_rung, sweep_runs
from zorba_ray.studies.execute import TRIES, Watcher
from zorba_ray.studies.spec import Study, slug
from zorba_ray.studies.store import Outcome, keep, outcome_of, read_outcome, swept, tried

RATE = "rate"  # what a trial is given
WORST = 1e30  # of a run that ended badly: Tune takes no infinity


def sweep(study: Study, cells: list[Cell], folder: Path, watcher: Watcher, most: int) -> None:
    """The sweeps of all cells, one cell after the other, `most` trials at a time."""
    for cell in cells:
        if sweep_runs(study, cell):
            sweep_cell(study, cell, folder, watcher, most)


def sweep_cell(study: Study, cell: Cell, folder: Path, watcher: Watcher, most: int) -> None:
    """As many trials as the grid has rates; of those that an earlier sitting has done, the outcome is taken."""
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, PlacementGroupFactory

    from zorba_ray.runtime.quota import wanted

    done = [run for run in swept(study, cell, folder) if outcome_of(run, folder) is not None]
    for run in done:
        watcher.done(run, outcome_of(run, folder) or Outcome("failed", "", 0.0), again=True)
    space, search, count = proposals(study, cell, folder, done)
    if count == 0:
        return
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the other one talks even where it is asked not to
    room = wanted(study.cpus, study.gpus)
    places = PlacementGroupFactory(room.bundles, strategy="PACK", bundle_label_selector=room.labels)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner = tune.Tuner(
        tune.with_resources(trial_of(study, cell, folder.absolute()), places),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=study.tuning.metric, mode=mode(study), search_alg=search, scheduler=scheduler(study, cell),
            num_samples=count, max_concurrent_trials=most,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder.absolute() / "tune"), name=slug(cell.label), verbose=0,
            failure_config=FailureConfig(max_failures=TRIES),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
        ),
    )  # fmt: skip
    results = tuner.fit()
    for result in map(results.__getitem__, range(len(results))):
        rate = rounded(float((result.config or {})[RATE]))
        (run,) = sweep_runs(study, cell, [rate])
        if run not in done:
            outcome = read_outcome(folder / run.folder) or keep(run, ended(result), folder)
            watcher.done(run, outcome, again=False)


def ended(result: Any) -> Outcome:
    """Of a trial whose run left no outcome: Tune ended it, or gave it up."""
    seconds = float((result.metrics or {}).get("time_total_s", 0.0))
    if result.error is not None:
        return Outcome("failed", str(result.error).strip().splitlines()[-1], seconds)
    return Outcome("pruned", f"ended by ASHA after {(result.metrics or {}).get('rounds', 0)} rounds", seconds)


def trial_of(study: Study, cell: Cell, folder: Path) -> Callable[[dict[str, Any]], None]:
    """What a trial's process does: one run of the study, each of its evaluations told to Tune."""

    def trial(params: dict[str, Any]) -> None:
        from ray import tune

        (run,) = sweep_runs(study, cell, [rounded(float(params[RATE]))])
        told: list[int] = []

        def tell(event: Any) -> None:
            if isinstance(event, EvaluationRecord) and event.round:
                told.append(event.round)
                tune.report({"rounds": event.round, "loss": event.loss, "accuracy": event.accuracy})

        outcome = outcome_of(run, folder) or carry(run.config, folder / run.folder, told=tell)
        if outcome.status == LOST:
            raise RuntimeError(outcome.message)  # Tune begins the trial again, and the run goes on where it was
        keep(run, outcome, folder)
        if not told:
            tune.report({"rounds": run.config.rounds, "loss": WORST, "accuracy": 0.0})

    return trial


def proposals(study: Study, cell: Cell, folder: Path, done: list[Run]) -> tuple[dict[str, Any], Any, int]:
    """Where the rates come from, and how many are still to be tried."""
    from ray import tune

    tuning, ends = study.tuning, (min(cell.rates), max(cell.rates))
    if tuning.search == "grid":
        left = [run.rate for run in sweep_runs(study, cell) if run not in done]
        return {RATE: tune.grid_search(left)}, None, int(bool(left))
    count = len(cell.rates) - len(done)
    if tuning.search == "random":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return {RATE: tune.loguniform(*ends)}, BasicVariantGenerator(random_state=tuning.seed + len(done)), count
    from ray.tune.search.optuna import OptunaSearch

    known = [(run.rate, score(run, study, folder)) for run in done]
    more: dict[str, Any] = {}
    if known:
        more = {"points_to_evaluate": [{RATE: rate} for rate, _ in known],
                "evaluated_rewards": [value for _, value in known]}  # fmt: skip
    search = OptunaSearch(seed=tuning.seed + len(done), **more)
    return {RATE: tune.loguniform(*ends)}, search, count


def score(run: Run, study: Study, folder: Path) -> float:
    """Of a run that is done, what Tune was told last."""
    last = tried(run, outcome_of(run, folder) or Outcome("failed", "", 0.0), folder)
    value = getattr(last, study.tuning.metric)
    bad = WORST if study.tuning.metric == "loss" else 0.0
    return value if last.status == "ok" and value is not None and math.isfinite(value) else bad


def scheduler(study: Study, cell: Cell) -> Any:
    """None: every trial goes to its end. A trial that comes to its last round ends by itself."""
    if study.tuning.scheduler == "none":
        return None
    from ray.tune.schedulers import ASHAScheduler

    rounds = sweep_runs(study, cell)[0].config.rounds
    return ASHAScheduler(
        time_attr="rounds", max_t=rounds + 1, grace_period=first_rung(rounds), reduction_factor=3
    )


def mode(study: Study) -> str:
    return "min" if study.tuning.metric == "loss" else "max"


def rounded(rate: float) -> float:
    """As the name of a run's folder has it."""
    return float(f"{rate:.6g}")
