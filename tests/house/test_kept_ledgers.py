"""Ledgers are, to the bit, those that were kept, and folders whole. Renewing them on purpose: `kept_ledgers.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_ledgers import config_of, kept, run
from one_ray import run_warm

from zorba_ray.ledger import ledger_sha256
from zorba_ray.report.ledger_words import verified_lines
from zorba_ray.runs.folder import LEDGER
from zorba_ray.runs.verify import verify

PRESETS = Path(__file__).resolve().parents[2] / "configs" / "methods"
OTHER, CASES = kept()
HERE = [name for name, case in CASES.items() if not case.on_ray]
ON_RAY = [name for name, case in CASES.items() if case.on_ray]
FAST = {  # one of each kind; the others run with the slow tests
    "zorba", "fedspzo-joint", "decomfl", "fedkseed-uniform", "fedzo", "fedavg-adamw", "fedit-separate", "private",
    "forward", "rademacher", "local-steps", "rotate-random", "participation", "dropout", "late-shared",
    "aggregate-median", "privacy", "bfloat16", "frozen-nf4", "lora", "stem",
}  # fmt: skip
LONG = [pytest.mark.slow, pytest.mark.timeout(1200)]
WANTED = {"late": "late-", "stale": "late-", "dropped": "dropout", "excluded": "outlier"}  # names begin so


def check(name: str, folder: Path) -> None:
    """Its folder everywhere; its bits where they were kept, for elsewhere others are nobody's fault."""
    verified = verify(folder)
    assert verified.whole, "\n".join(verified_lines(verified))
    if OTHER:
        pytest.skip(f"whole, but the kept digests are of other hardware: {OTHER}")
    if not CASES[name].sha256:
        pytest.skip(f"whole, but the digest of {name} was renewed on other hardware than this")
    found = ledger_sha256(folder / LEDGER)
    assert found == CASES[name].sha256, f"the ledger of {name} is another than the one that was kept"


@pytest.mark.parametrize("name", [pytest.param(n, marks=LONG * (n not in FAST)) for n in HERE])
def test_the_ledger_is_the_one_that_was_kept(name: str, tmp_path: Path) -> None:
    found = run(CASES[name], tmp_path / "run")
    for what, beginning in WANTED.items():
        assert getattr(found, what) > 0 or not name.startswith(beginning), f"{name} is to have {what} reports"
    check(name, tmp_path / "run")


@pytest.mark.parametrize("name", [pytest.param(n, marks=LONG * (n != ON_RAY[0])) for n in ON_RAY])
def test_on_ray_too_the_ledger_is_the_one_that_was_kept(local_ray: None, name: str, tmp_path: Path) -> None:
    run_warm(config_of(CASES[name]), tmp_path / "run")
    check(name, tmp_path / "run")


def test_what_was_kept_tells_cases_apart_and_placements_not() -> None:
    apart = [CASES[name].sha256 for name in HERE if CASES[name].sha256]
    assert len(set(apart)) == len(apart)
    assert {CASES[name].sha256 for name in ON_RAY} == {CASES["placement-here"].sha256}


def test_what_runs_with_the_fast_tests_is_kept() -> None:
    assert set(HERE) >= FAST


def test_every_preset_is_kept() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} <= {name for case in CASES.values() for name in case.presets}
