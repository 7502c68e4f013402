"""`zorba-ray replay RUN`: the model of a run at any round, to check it or to take it away, and the ledger's tools."""

# ruff: noqa: RUF009  (section returns a dataclass field)

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import TRUST_CODE, Command, Flag, Program
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import EvaluationConfig, TaskConfig, section

if TYPE_CHECKING:
    from zorba_ray.runs.replay import Replayed, Rounds


@dataclass
class Data:
    """What `--evaluate` takes as key=value."""

    task: TaskConfig = section(TaskConfig, "data, prompt and labels")
    evaluation: EvaluationConfig = section(EvaluationConfig, "what is evaluated on, for --evaluate")


REPLAY = Program(
    "python -m zorba_ray.replay",
    "Rebuild the model of a run from its base and its ledger, bit for bit, and check it against the run's summary; or "
    "answer a question: --verify, --audit, --diff, --evaluate. Exit status 1: something is not as it should be.",
    (
        Flag("--round", "after this many rounds, or after the best evaluated one; without it after the last", "T|best"),
        Flag("--client", "as this client has it: the rounds that it has downloaded, what it keeps in few bits", "N"),
        Flag("--export", "write model and tokenizer as a folder that from_pretrained opens, adapters merged", "FOLDER"),
        Flag("--adapter", "write the adapters alone, as a folder that peft opens over the base model", "FOLDER"),
        Flag("--verify", "walk the whole folder: seals, tensors, records, totals, and every round's step made again "
                         "from the recorded scalars"),
        Flag("--audit", "let client N do its part of round T (from 0) again, and compare with its record", "N,T"),
        Flag("--diff", "where this run and another part: round, block, direction, coefficient, likely cause", "RUN2"),
        Flag("--evaluate", "the model on the run's own test data, or on what key=value says (task.*, evaluation.*)"),
        TRUST_CODE,
    ),
    (
        ("runs/run-20260101-120000", "check that ledger and summary agree"),
        ("runs/run-20260101-120000 --round best --export models/best", "take the model of the best round away"),
        ("runs/run-20260101-120000 --verify", "is everything in this folder what it was?"),
        ("runs/run-20260101-120000 --audit 3,17", "client 3 in round 17, to the bit"),
        ("runs/first --diff runs/second", "why did they come out differently?"),
        ("runs/run-20260101-120000 --evaluate task.test=mine.tsv", "on other data (task.name=files)"),
    ),
    argument="RUN",
    kinds=lambda: (Data,),
)
TAKEN = {  # by each question: flags that go with it
    "--verify": (), "--audit": (), "--diff": (), "--evaluate": ("--round",),
    "": ("--round", "--client", "--export", "--adapter"),
}  # fmt: skip


def main(argv: Sequence[str] | None = None, name: str = REPLAY.name) -> int:
    """The command; its exit status."""
    return enter(replace(REPLAY, name=name), argv, replay)


def replay(command: Command) -> Done:
    if command.config_path is None:
        raise ConfigError("which run? zorba-ray replay RUN, where RUN is the folder of a run")
    from zorba_ray.runs.trust import refuse_untrusted

    run, asked = Path(command.config_path), question(command)
    for folder in (run, *map(Path, filter(None, [command.flags.get("--diff")]))):
        refuse_untrusted(folder, TRUST_CODE.name in command.flags)
    answers: dict[str, Callable[[Path, Command], Done]] = {
        "--verify": verified, "--audit": audited, "--diff": differing, "--evaluate": evaluated, "": rebuilt,
    }  # fmt: skip
    return answers[asked](run, command)


def question(command: Command) -> str:
    """The flag that asks for something else than the model; empty: none does."""
    flags = set(command.flags) - {"--json", TRUST_CODE.name}
    asked = sorted(flags & TAKEN.keys())
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)} are two questions; ask one at a time")
    name = asked[0] if asked else ""
    for other in sorted(flags - {name} - set(TAKEN[name])):
        raise ConfigError(f"{other} does not go with {name}")
    if command.overrides and name != "--evaluate":
        raise ConfigError(f"{command.overrides[0]}: only --evaluate takes keys")
    return name


def rebuilt(run: Path, command: Command) -> Done:
    from zorba_ray.model.quantise import few_bits

    export, adapter = command.flags.get("--export"), command.flags.get("--adapter")
    export_to, adapter_to = (Path(folder) if folder else None for folder in (export, adapter))
    client = number(command.flags["--client"], "--client") if "--client" in command.flags else None
    made, same = replayed(run, parse_round(command.flags.get("--round")), export_to, adapter_to, client)
    whose = "" if client is None else f" as client {client} has it"
    since = f" from the snapshot of round {made.start} on, for the tensors before it are gone" if made.start else ""
    print(f"{run}: {made.rounds} rounds replayed{whose}{since}, model sha256 {made.sha256}")
    if same:
        print("the same, to the bit, as the model that the run ended with")
    for folder in filter(None, (export, adapter)):
        print(f"written to {folder}")
    kind = few_bits(made.model.spec.config.frozen) if adapter else None
    if kind:
        print(f"these adapters were trained over weights in {kind}: over the whole ones the loss differs a little, and "
              f"--export writes what they were trained over")  # fmt: skip
    told = {"folder": run, "rounds": made.rounds, "start": made.start, "client": client, "model_sha256": made.sha256}
    return Done({**told, "same": same, "export": export, "adapter": adapter})


def verified(run: Path, command: Command) -> Done:
    from zorba_ray.report.ledger_words import verified_lines
    from zorba_ray.runs.verify import verify

    found = verify(run)
    return told(found, verified_lines(found), {"whole": found.whole}, found.whole)


def audited(run: Path, command: Command) -> Done:
    from zorba_ray.report.ledger_words import audit_lines
    from zorba_ray.runs.audit import audit

    client, comma, round = command.flags["--audit"].partition(",")
    if not comma:
        raise ConfigError(f"--audit takes a client and a round, such as 3,17, not {client!r}")
    found = audit(run, number(client, "--audit"), number(round, "--audit"))
    return told(found, audit_lines(found), {"same": found.same}, found.same)


def differing(run: Path, command: Command) -> Done:
    from zorba_ray.report.ledger_words import difference_lines
    from zorba_ray.runs.difference import difference

    found = difference(run, Path(command.flags["--diff"]))
    return told(found, difference_lines(found), {"alike": found.alike}, found.alike)


def evaluated(run: Path, command: Command) -> Done:
    from zorba_ray.report.ledger_words import evaluation_lines
    from zorba_ray.runs.evaluate import evaluate

    found = evaluate(run, parse_round(command.flags.get("--round")), command.overrides)
    return told(found, evaluation_lines(found), {}, True)


def told(found: Any, lines: Iterable[str], said: dict[str, bool], well: bool) -> Done:
    for line in lines:
        print(line)
    return Done({**dataclasses.asdict(found), **said}, 0 if well else 1)


def parse_round(text: str | None) -> Rounds:
    return "best" if text == "best" else None if text is None else number(text, "--round")


def number(text: str, flag: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"{flag} takes a number, not {text!r}")
    return int(text)


def replayed(
    run: Path, rounds: Rounds, export: Path | None, adapter: Path | None = None, client: int | None = None
) -> tuple[Replayed, bool | None]:
    """The model, written to `export` and its adapters to `adapter` if that is asked; and that it is the one
    that the run ended with (None: it ended after other rounds, or without knowing). ConfigError where it should be and
    is not."""
    from zorba_ray.model import save_adapter, save_folder
    from zorba_ray.runs.replay import replayed_model
    from zorba_ray.runs.summary import FILE, read_summary
    from zorba_ray.tasks.load import tokenizer_of

    for flag, folder in (("--export", export), ("--adapter", adapter)):
        if folder is not None and folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; choose another folder for {flag}")
    made = replayed_model(run, rounds, client)
    same = None
    summary = read_summary(run) if (run / FILE).exists() else None
    if summary and summary.model_sha256 and summary.rounds_done == made.rounds and client is None:
        same = summary.model_sha256 == made.sha256
        if not same:
            raise ConfigError(
                f"the run ended with model sha256 {summary.model_sha256}: base, ledger and summary of {run} do not "
                f"belong together"
            )
    if export is not None:
        save_folder(made.model, export)
        tokenizer_of(made.task, made.model.spec.config).save_pretrained(export)
    if adapter is not None:
        save_adapter(made.model, adapter)
    return made, same
