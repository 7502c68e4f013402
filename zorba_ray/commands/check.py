"""`zorba-ray check [CONFIG] [key=value …]`: what holds on this machine or cluster, line by line, in a minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import Command, Flag, Program
from zorba_ray.config.errors import ConfigError
from zorba_ray.methods import kind_of
from zorba_ray.runs.config import load_config
from zorba_ray.runs.early import check_early

WORDS = {True: "holds", False: "FAILS", None: "left out"}
CHECK = Program(
    "zorba-ray check",
    "Try out on this machine, or on a cluster, what a run counts on: equal versions on all nodes, noise that is the "
    "same to the bit on every device, room for the clients of CONFIG, and a round with the same ledger in both "
    "placements; on GPUs also the cap on a client's memory, predicted against measured memory, and the speed of the "
    "bus. Exit status 1 where something fails.",
    (Flag("--address", "where Ray is: local, auto or host:port; short for runtime.address=…", "RAY"),),
    (
        ("", "this machine"),
        ("opt125m_sst2 --address auto", "the cluster that it belongs to, and how this config's clients fit there"),
    ),
    kinds=lambda: (kind_of(""),),
)


def main(argv: Sequence[str] | None = None, name: str = CHECK.name) -> int:
    """The command; its exit status."""
    return enter(replace(CHECK, name=name), argv, run)


def run(command: Command) -> Done:
    address = [f"runtime.address={command.flags['--address']}"] if "--address" in command.flags else []
    config = load_config(command.config_path, [*command.overrides, *address], command.more)
    check_early(config)

    import ray

    from zorba_ray.runtime.check import Line, check
    from zorba_ray.runtime.connect import connect, through_client

    guest = ray.is_initialized()
    try:
        if not guest:
            connect(config.runtime.address)
        if through_client():
            raise ConfigError("check stands on a node of the cluster: run it there, or send it by `ray job submit`")
        lines: list[Line] = []
        for line in check(config):
            lines.append(line)
            print(f"{WORDS[line.holds]:<9} {line.what}: {line.told}", flush=True)
    finally:
        if not guest:
            ray.shutdown()
    failed = any(line.holds is False for line in lines)
    return Done({"lines": [asdict(line) for line in lines], "holds": not failed}, int(failed))
