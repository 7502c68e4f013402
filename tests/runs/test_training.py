"""Does it learn? The embedded default, and a real trained model on real text, by the same code."""

from __future__ import annotations

from pathlib import Path

import pytest

from zorba_ray.config.schema import Config
from zorba_ray.records.schema import EvaluationRecord
from zorba_ray.runs.config import load_config
from zorba_ray.runs.simulate import Here, begin


def evaluations(config: Config, folder: Path) -> list[EvaluationRecord]:
    events = begin(config, folder, False, Here()).events
    return [event for event in events if isinstance(event, EvaluationRecord)]


@pytest.mark.slow
def test_the_default_run_gains_twenty_points(tmp_path: Path):
    found = evaluations(load_config(None, ["evaluation.every=100"]), tmp_path / "run")
    assert found[-1].accuracy - found[0].accuracy >= 0.2


@pytest.mark.real
@pytest.mark.slow
def test_a_trained_llama_learns_the_language_of_film_reviews(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ZORBA_RAY_SHARED", str(shared))
    found = evaluations(load_config("stories_sst2", ["rounds=20", "evaluation.every=20"]), tmp_path / "run")
    assert found[-1].loss < found[0].loss - 0.2
