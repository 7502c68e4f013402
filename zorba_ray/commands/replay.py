"""`python -m zorba_ray.replay RUN`: the model of a run at any round, to check it or to take it away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.config.errors import ConfigError

if TYPE_CHECKING:
    from zorba_ray.runs.replay import Replayed

REPLAY = Program(
    "python -m zorba_ray.replay",
    "Rebuild the model of a run from its base and its ledger, bit for bit, and check it against the run's summary.",
    (
        Flag("--round", "after this many rounds; without it after the last", "T"),
        Flag("--export", "write model and tokenizer as a folder that from_pretrained opens, adapters merged", "FOLDER"),
        Flag("--adapter", "write the adapters alone, as a folder that peft opens over the base model", "FOLDER"),
    ),
    (
        ("runs/run-20260101-120000", "check that ledger and summary agree"),
        ("runs/run-20260101-120000 --round 50 --export models/round50", "take the model of round 50 away"),
    ),
    argument="RUN",
)


def main(argv: Sequence[str] | None = None, name: str = REPLAY.name) -> int:
    """The command; its exit status."""
    return enter(replace(REPLAY, name=name), argv, replay)


def replay(command: Command) -> Done:
    if command.config_path is None:
        raise ConfigError("which run? zorba-ray replay RUN, where RUN is the folder of a run")
    run, export, adapter = Path(command.config_path), command.flags.get("--export"), command.flags.get("--adapter")
    folders = (Path(folder) if folder else None for folder in (export, adapter))
    made, same = replayed(run, parse_round(command.flags.get("--round")), *folders)
    since = f" from the snapshot of round {made.start} on, for the tensors before it are gone" if made.start else ""
    print(f"{run}: {made.rounds} rounds replayed{since}, model sha256 {made.sha256}")
    if same:
        print("the same, to the bit, as the model that the run ended with")
    for folder in filter(None, (export, adapter)):
        print(f"written to {folder}")
    told = {"folder": run, "rounds": made.rounds, "start": made.start, "model_sha256": made.sha256, "same": same}
    return Done({**told, "export": export, "adapter": adapter})


def parse_round(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise ConfigError(f"--round takes a number of rounds, not {text!r}")
    return int(text)


def replayed(
    run: Path, rounds: int | None, export: Path | None, adapter: Path | None = None
) -> tuple[Replayed, bool | None]:
    """The model, written to `export` and its adapters to `adapter` if that is asked; and that it is the one
    that the run ended with (None: it ended after other rounds, or without knowing). ConfigError where it should be and
    is not."""
    from zorba_ray.model import save_adapter, save_folder
    from zorba_ray.runs.replay import replayed_model
    from zorba_ray.runs.summary import FILE, read_summary
    from zorba_ray.tasks.load import open_tokenizer

    for flag, folder in (("--export", export), ("--adapter", adapter)):
        if folder is not None and folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; choose another folder for {flag}")
    made = replayed_model(run, rounds)
    same = None
    summary = read_summary(run) if (run / FILE).exists() else None
    if summary and summary.model_sha256 and summary.rounds_done == made.rounds:
        same = summary.model_sha256 == made.sha256
        if not same:
            raise ConfigError(
                f"the run ended with model sha256 {summary.model_sha256}: base, ledger and summary of {run} do not "
                f"belong together"
            )
    if export is not None:
        save_folder(made.model, export)
        open_tokenizer(made.model.spec.config)[0].save_pretrained(export)
    if adapter is not None:
        save_adapter(made.model, adapter)
    return made, same
