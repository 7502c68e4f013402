"""`zorba-ray run [CONFIG] [key=value …]`, also `python -m zorba_ray.run`: one run, from config to report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from zorba_ray.commands.entry import Done, enter
from zorba_ray.commands.line import RUN, Command
from zorba_ray.commands.signals import Signals, in_order
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.files import check_complete
from zorba_ray.config.load import to_yaml
from zorba_ray.config.schema import Config
from zorba_ray.runs.config import load_config
from zorba_ray.runs.early import check_early


def main(argv: Sequence[str] | None = None, name: str = RUN.name) -> int:
    """The command; its exit status."""
    started = time.perf_counter()
    return enter(replace(RUN, name=name), argv, lambda command: run(command, started))


def run(command: Command, started: float) -> Done:
    """The command, to its end or until a signal comes."""
    named = command.flags.get("--resume") or command.flags.get("--resume-or-start")
    signals = Signals(Path(named) if named else None, "--resume" in command.flags)
    return in_order(signals, lambda: carry_out(command, started, signals))


def carry_out(command: Command, started: float, signals: Signals) -> Done:
    """Everything that can be wrong in the command or the config stops here, before anything starts."""
    config, folder, resume = asked(command)
    if "--print-config" in command.flags:
        print(to_yaml(config), end="")
        return Done(dataclasses.asdict(config))
    check_early(config)
    backend: Literal["ray", "local"] = "local" if "--local" in command.flags else "ray"
    if "--dry-run" in command.flags:
        from zorba_ray.commands.dry_run import dry_run

        return dry_run(config, backend)
    if config.runtime.address == "local":
        check_complete(config.model)
    if "--detach" in command.flags:
        from zorba_ray.commands.detached import detach

        return detach(command, config, folder)
    if resume:
        from zorba_ray.report.run_page import FILE as REPORT
        from zorba_ray.report.run_page import write_report
        from zorba_ray.runs.resume import finished

        end = finished(config, folder)
        if end:
            if not (folder / REPORT).exists():
                write_report(folder)
            print(f"{folder} is finished: {end.rounds_done} of {end.rounds} rounds; it becomes longer with rounds=…")
            return Done({"folder": folder, **dataclasses.asdict(end)})
    from zorba_ray.commands.front import conduct
    from zorba_ray.report.display import Display

    signals.folder, signals.begun = folder, resume
    ended = conduct(config, folder, resume, backend, Display(config.rounds, config.name), started, signals)
    status = signals.status if ended.summary.interrupted else 0
    return Done({"folder": ended.folder, **dataclasses.asdict(ended.summary)}, status)


def asked(command: Command) -> tuple[Config, Path, bool]:
    """The config that a line means, the run's folder, and whether a run in it is gone on with."""
    from zorba_ray.runs.new import run_folder
    from zorba_ray.runs.resume import can_resume, check_same, resumed_config

    overrides, flags = list(command.overrides), command.flags
    if "--address" in flags:
        overrides.append(f"runtime.address={flags['--address']}")
    if "--resume" in flags:
        if "--resume-or-start" in flags:
            raise ConfigError("give either --resume or --resume-or-start")
        if command.config_path:
            raise ConfigError("a resumed run keeps its config: --resume takes no CONFIG")
        folder = Path(flags["--resume"])
        return resumed_config(folder, overrides, "--trust-code" in flags), folder, True
    if "--resume-or-start" in flags:
        folder = Path(flags["--resume-or-start"])
        config = load_config(command.config_path, [*overrides, f"out={folder}"], command.more)
        if can_resume(folder):
            return check_same(config, folder, "--trust-code" in flags), folder, True
        return config, run_folder(config), False
    config = load_config(command.config_path, overrides, command.more)
    return config, run_folder(config), False
