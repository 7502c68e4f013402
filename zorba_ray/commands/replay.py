"""`python -m zorba_ray.replay RUN`: the model of a run at any round, to check it or to take it away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zorba_ray.commands.entry import enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.config.errors import ConfigError

REPLAY = Program(
    "python -m zorba_ray.replay",
    "Rebuild the model of a run from its base and its ledger, bit for bit, and check it against the run's summary.",
    (
        Flag("--round", "after this many rounds; without it after the last", "T"),
        Flag("--export", "write the model as a folder that transformers opens with from_pretrained", "FOLDER"),
    ),
    (
        ("runs/run-20260101-120000", "check that ledger and summary agree"),
        ("runs/run-20260101-120000 --round 50 --export models/round50", "take the model of round 50 away"),
    ),
    argument="RUN",
    keys=False,
)


def main(argv: Sequence[str] | None = None) -> int:
    return enter(REPLAY, argv, replay)


def replay(command: Command) -> int:
    if command.config_path is None:
        raise ConfigError("which run? python -m zorba_ray.replay RUN, where RUN is the folder of a run")
    export = command.flags.get("--export")
    rounds = parse_round(command.flags.get("--round"))
    replay_run(Path(command.config_path), rounds, Path(export) if export else None)
    return 0


def parse_round(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise ConfigError(f"--round takes a number of rounds, not {text!r}")
    return int(text)


def replay_run(run: Path, rounds: int | None, export: Path | None) -> None:
    from zorba_ray.model import save_folder
    from zorba_ray.runs.replay import replayed_model
    from zorba_ray.runs.summary import FILE, read_summary

    replayed = replayed_model(run, rounds)
    print(f"{run}: {replayed.rounds} rounds replayed, model sha256 {replayed.sha256}")
    if (run / FILE).exists():
        summary = read_summary(run)
        if summary.rounds_done == replayed.rounds:
            if summary.model_sha256 != replayed.sha256:
                raise ConfigError(
                    f"the run ended with model sha256 {summary.model_sha256}: base, ledger and summary of {run} do not "
                    f"belong together"
                )
            print("the same, to the bit, as the model that the run ended with")
    if export is not None:
        if export.exists() and any(export.iterdir()):
            raise ConfigError(f"{export} is not empty; choose another folder for --export")
        save_folder(replayed.model, export)
        print(f"written to {export}")

