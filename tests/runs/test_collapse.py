from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from runs.toy_runs import Pretender, Toy, config_of

from zorba_ray.messages import Step, Tally
from zorba_ray.runs.collapse import Collapse, best_guess
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import load_problem
from zorba_ray.runs.prepared import Prepared
from zorba_ray.runs.simulate import Snapshots, begin
from zorba_ray.world.world import Diverged

GUESS = 0.5, math.log(2)


def told(action: str, evaluations: list[tuple[float, float]], guess: tuple[float, float] | None = GUESS) -> list[str]:
    guard = Collapse(action, guess)
    return [guard.seen(10 * i, accuracy, loss, 400) for i, (accuracy, loss) in enumerate(evaluations)]


def test_a_collapse_is_said_once_and_again_after_a_recovery() -> None:
    good, bad = (0.8, 0.5), (0.5, 0.75)
    lines = told("warn", [good, bad, bad, good, bad])
    assert [bool(line) for line in lines] == [False, True, False, False, True]
    assert "by round 10" in lines[1] and "50.0%" in lines[1] and "\n" not in lines[1]


def test_it_stops_where_that_is_asked_and_is_silent_where_that_is() -> None:
    with pytest.raises(Diverged, match="collapsed to chance by round 10"):
        told("stop", [(0.8, 0.5), (0.5, 0.75)])
    assert not any(told("off", [(0.8, 0.5), (0.5, 0.75)]))


@pytest.mark.parametrize(("first", "then"), [
    ((0.5, 0.75), (0.48, 0.8)),  # at chance from the beginning: nothing was lost
    ((0.8, 0.5), (0.5, 0.6)),  # the answers are one-sided, the loss knows more
    ((0.8, 0.5), (0.7, 0.9)),  # overconfident, and still right more often
    ((0.8, 0.5), (0.79, 0.51)),
])  # fmt: skip
def test_what_is_no_collapse_is_not_called_one(first: tuple[float, float], then: tuple[float, float]) -> None:
    assert not any(told("warn", [first, then]))


def test_a_resumed_run_remembers_that_it_was_better() -> None:
    guard = Collapse("warn", GUESS)
    guard.recall(0.8, 0.5, 400)
    assert guard.seen(20, 0.5, 0.75, 400)
    again = Collapse("warn", GUESS)
    again.recall(0.8, 0.5, 400)
    again.recall(0.5, 0.75, 400)
    assert not again.seen(30, 0.5, 0.75, 400)


def test_one_answer_for_all_is_as_good_as_the_labels_say() -> None:
    task = load_problem(load_config(None)).task
    share, entropy = best_guess(task) or (0.0, 0.0)
    assert 0.5 <= share < 0.6 and entropy == pytest.approx(math.log(2), abs=0.01)
    assert best_guess(replace(task, kind="language", labels=())) is None


class Sinking(Toy):
    """Good before the first step, one answer for all after it."""

    def ready(self, prepared: Prepared, steps: Sequence[Step], snapshots: Snapshots) -> Pretender:
        backend = super().ready(prepared, steps, snapshots)
        tallies = iter([Tally(8, 0.8, 8, b"\1" * 8), *[Tally(2, 80.0, 8, b"\0" * 8)] * 9])
        backend.evaluate = lambda: next(tallies)  # type: ignore[method-assign]
        return backend


@pytest.mark.parametrize("action", ["warn", "stop"])
def test_the_evaluation_after_a_reached_target_is_guarded_too(tmp_path: Path, action: str) -> None:
    keys = ["evaluation.every=4", "stop.bytes=1 B", f"guard.collapse={action}"]
    simulation = begin(config_of(*keys), tmp_path / "run", False, Sinking())
    stopped = ""
    try:
        events = [event for event in simulation.events if isinstance(event, str)]
        assert any("collapsed to chance by round 1" in event for event in events)
    except Diverged as error:
        stopped = str(error)
    assert ("collapsed to chance by round 1" in stopped) == (action == "stop")
    summary = simulation.finish(stopped=stopped)
    assert (summary.rounds_done, summary.accuracy_last) == (1, 0.25)
    assert action == "stop" or any("collapsed" in note for note in summary.notes)
