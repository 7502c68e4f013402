"""`zorba-ray COMMAND …`, also `python -m zorba_ray COMMAND …`: all commands by one name."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from zorba_ray import __version__

COMMANDS = {  # the modules beside this one, each with a `main`
    "run": "simulate one federated fine-tuning run",
    "memory": "what a run's clients need of VRAM, part by part",
    "allocate": "solve and explain a run's allocation without running it",
    "data": "what a config makes of its data: prompts, labels, lengths, partition",
    "study": "many runs: named arms, tuned alike, over several seeds",
    "check": "what holds on this machine or cluster, line by line",
    "replay": "the model of a run at any round, to check it or to take it away",
    "report": "the page of a run, of several or of a study, and figures for a paper",
    "configs": "the presets, studies and files for clusters that come with zorba_ray",
    "list": "runs on this machine or a cluster, and how far they are",
    "attach": "watch a run that goes on detached",
    "stop": "end a run after its round; it can be resumed",
}


def main(argv: Sequence[str] | None = None, prefix: str = "zorba-ray") -> int:
    """The command; its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments[0] if arguments else "--help"
    if first in COMMANDS:
        status: int = import_module(f"zorba_ray.commands.{module_of(first)}").main(arguments[1:], f"{prefix} {first}")
        return status
    if first in ("--help", "-h"):
        print(overview(prefix), end="")
        return 0
    if first == "--version":
        print(f"zorba_ray {__version__}")
        return 0
    close = difflib.get_close_matches(first, COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"a run is {prefix} run {first}"
    print(f"zorba_ray: no command is called {first!r}; {hint} (commands: {', '.join(COMMANDS)})", file=sys.stderr)
    return 2


def module_of(command: str) -> str:
    """`list` and `attach` and `stop` share a module."""
    return "detached" if command in ("list", "attach", "stop") else command


def overview(prefix: str) -> str:
    lines = [f"  {name:<10}{what}" for name, what in COMMANDS.items()]
    return f"Usage: {prefix} COMMAND …\n\n" + "\n".join(lines) + f"\n\n{prefix} COMMAND --help says more.\n"
