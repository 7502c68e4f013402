"""`zorba-ray data`: what a config makes of its data, before a run does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.config.words import percent, text_table
from zorba_ray.methods import kind_of
from zorba_ray.runs.config import load_config
from zorba_ray.runs.early import check_early

if TYPE_CHECKING:
    from zorba_ray.runs.preview import Preview

BARS, WIDTH = 12, 40  # clients drawn in text, and characters of the largest
INK = "█▓▒░▞▚"  # of the labels in turn

DATA = Program(
    "python -m zorba_ray data",
    "Show what a config makes of its data: prompts as the model sees them, labels, lengths and what is cut, the "
    "partition, and what the model answers before it is trained.",
    (
        Flag("--examples", "how many prompts to print (4)", "COUNT"),
        Flag("--picture", "draw the partition to this file (png, svg or pdf)", "FILE"),
    ),
    (
        ("", "of the default run"),
        ("my.yaml clients.partition=dirichlet clients.alpha=0.1", "of your own, dealt out otherwise"),
    ),
    kinds=lambda: (kind_of(""),),
)


def main(argv: Sequence[str] | None = None, name: str = DATA.name) -> int:
    """The command; its exit status."""
    return enter(replace(DATA, name=name), argv, show)


def show(command: Command) -> Done:
    config = load_config(command.config_path, command.overrides, command.more)
    check_early(config)
    wanted = command.flags.get("--examples", "4")
    if not wanted.isdecimal():
        raise ConfigError(f"--examples takes a whole number, not {wanted!r}")
    from zorba_ray.runs.preview import preview

    found = preview(config, int(wanted))
    print("\n\n".join(page(config, found)))
    if picture := command.flags.get("--picture"):
        draw(found, Path(picture))
    return Done(told(found))


def page(config: Config, found: Preview) -> list[str]:
    """The parts of what is printed."""
    task, part = found.task, config.evaluation.data
    parts = [f"{task.name}: {len(task.train)} training and {len(task.test)} {part} examples, asked by {task.kind}"]
    for text, label in found.texts:
        parts.append(json.dumps(text, ensure_ascii=False) + (f"\n  → {label}" if label else ""))
    if found.answers:
        rows = [
            [each.label, each.said, " ".join(map(str, each.tokens)), str(each.train), str(each.test)]
            for each in found.answers
        ]
        parts.append(text_table(["Label", "Said as", "Tokens", "Training", part.capitalize()], rows))
    cut = found.cut
    said = f"Tokens an example: {cut.least} to {cut.most}, median {cut.median}."
    if cut.shortened:
        said += f" task.max_tokens={config.task.max_tokens} cuts {cut.shortened} of {len(task.train)} training examples"
        said += f" and takes {percent(cut.lost)} of all tokens."
    if found.unknown:
        said += f" {percent(found.unknown)} of the tokens stand for words that this model's vocabulary lacks."
    parts.append(said)
    accuracy, loss = found.zero_shot
    said = f"Before round 0: accuracy {percent(accuracy)}, loss {loss:.4f}"
    if found.guess is not None:
        said += f"; one answer for all would have {percent(found.guess[0])} and {found.guess[1]:.4f}"
    parts.append(f"{said}.")
    sizes = found.dealt.sizes
    said = f"{len(sizes)} clients ({config.clients.partition}) have {sizes.min()} to {sizes.max()} training examples, "
    said += f"median {int(np.median(sizes))}"
    if found.answers:
        said += f"; their labels differ from all clients' by {percent(found.dealt.skew)} on average"
    parts.append(f"{said}.\n{bars(found)}")
    return parts


def bars(found: Preview) -> str:
    """A line for each of the first clients: its examples, label by label."""
    scale = WIDTH / int(found.dealt.sizes.max())
    lines = []
    for n, row in enumerate(found.dealt.counts[:BARS]):
        ends = np.rint(np.cumsum(row) * scale).astype(int)
        drawn = "".join(INK[c % len(INK)] * int(width) for c, width in enumerate(np.diff([0, *ends])))
        lines.append(f"  {n:>6}  {drawn:<{WIDTH}}  {int(row.sum())}")
    if len(found.dealt.counts) > BARS:
        lines.append(f"       …  and {len(found.dealt.counts) - BARS} more")
    if found.answers:
        meaning = (f"{INK[c % len(INK)]} {each.label}" for c, each in enumerate(found.answers))
        lines.append(" " * 10 + "  ".join(meaning))
    return "\n".join(lines)


def draw(found: Preview, path: Path) -> None:
    from zorba_ray.report.data_figures import partition
    from zorba_ray.report.pictures import write_picture

    try:
        write_picture(partition(found.dealt), path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--picture {path}: {error}") from None
    print(f"\nWritten to {path}")


def told(found: Preview) -> dict[str, object]:
    """For scripts."""
    accuracy, loss = found.zero_shot
    return {
        "task": found.task.name,
        "kind": found.task.kind,
        "train": len(found.task.train),
        "test": len(found.task.test),
        "examples": [{"text": text, "label": label} for text, label in found.texts],
        "labels": [asdict(each) for each in found.answers],
        "tokens": {**asdict(found.cut), "unknown": found.unknown},
        "zero_shot": {"accuracy": accuracy, "loss": loss},
        "one_answer": None if found.guess is None else {"accuracy": found.guess[0], "loss": found.guess[1]},
        "clients": found.dealt.counts.tolist(),
        "skew": found.dealt.skew,
    }
