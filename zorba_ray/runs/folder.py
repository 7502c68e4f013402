"""The folder of a run: what lies in it, how it comes to be, and who may write there."""

from __future__ import annotations

import errno
import itertools
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.load import to_yaml
from zorba_ray.config.schema import Config
from zorba_ray.ledger.whole import whole_file
from zorba_ray.runs.config import load_config
from zorba_ray.runs.lock import Held, Lock

CONFIG, ALLOCATION, LEDGER = "config.yaml", "allocation.json", "ledger.jsonl"
STATISTICS = "statistics{}.json"
PROBES = "probes{}.json"
DEALT = "dealt.json"
PLANNED = "allocation*.json", "statistics*.json", "probes*.json", DEALT  # before the first round; of all plans


def make_folder(config: Config, wanted: Path) -> Path:
    """Make the folder of a new run before anything expensive: one that the user named (`out`) unless it holds a run,
    else one of its own."""
    if not config.out:
        return make_alone(wanted)
    refuse_used_folder(wanted)
    return make_named(wanted)


def make_named(wanted: Path) -> Path:
    """Make the folder that the user named, or take it where it is."""
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(wanted, error) from None
    if not os.access(wanted, os.W_OK):
        raise cannot_write(wanted, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return wanted


def make_alone(wanted: Path) -> Path:
    """Make a folder that nobody else made: `wanted`, with a number where the name is taken."""
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for folder in numbered(wanted):
            with suppress(FileExistsError):
                folder.mkdir()
                break
        return folder
    except OSError as error:
        raise cannot_write(wanted, error) from None


def numbered(folder: Path) -> Iterator[Path]:
    """NAME, NAME-2, NAME-3 …"""
    yield folder
    for number in itertools.count(2):
        yield folder.with_name(f"{folder.name}-{number}")


@dataclass(frozen=True)
class Claim:
    """A run's folder while this process writes to it."""

    folder: Path
    lock: Lock

    def release(self) -> None:
        self.lock.release()

    def abandon(self) -> None:
        """Leave. Where nothing was begun, the folder goes too: a mistake in the config leaves no trace."""
        if not (self.folder / LEDGER).exists():
            for path in [self.folder / CONFIG, *plan_files(self.folder)]:
                path.unlink(missing_ok=True)
        self.release()
        with suppress(OSError):  # something else lies there, or it is gone already
            self.folder.rmdir()


def claim_folder(config: Config, folder: Path, resume: bool) -> Claim:
    """This process's own folder, to begin a run in or to go on with one; the first thing that a run does."""
    return claim_again(folder) if resume else claim_new(config, folder)


def claim_new(config: Config, wanted: Path) -> Claim:
    """Lock the folder of a new run, made here or before, and write its config. Who did not name it gets the next free
    one; nobody gets one that holds a run, or that somebody else is about to begin one in."""
    try:
        for folder in [wanted] if config.out else numbered(wanted):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = Lock(folder)
            except Held:
                if config.out:
                    raise
                continue
            if config.out or not (folder / LEDGER).exists():
                break
            lock.release()
        claim = Claim(folder, lock)
        try:
            refuse_used_folder(folder)
            for path in plan_files(folder):  # of a run that died before its ledger began
                path.unlink()
            write_whole(folder / CONFIG, to_yaml(config))
        except BaseException:
            claim.release()
            raise
        return claim
    except OSError as error:
        raise cannot_write(wanted, error) from None


def claim_again(folder: Path) -> Claim:
    """Lock the folder of a run that is to go on."""
    refuse_no_run(folder)
    with writing_to(folder):
        return Claim(folder, Lock(folder))


def plan_files(folder: Path) -> list[Path]:
    """Plans and what belongs to them."""
    return [path for name in PLANNED for path in folder.glob(name)]


def refuse_used_folder(folder: Path) -> None:
    """A new run never writes over an old one."""
    if (folder / LEDGER).exists():
        raise ConfigError(f"{folder} already holds a run; go on with it by --resume {folder}, or choose another `out`")


def refuse_no_run(folder: Path) -> None:
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} has no {CONFIG}: it is not the folder of a run")


def stored_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The config that a run folder was begun with. Reading it runs the method file that it names: see `runs.trust`."""
    refuse_no_run(folder)
    return load_config(folder / CONFIG, overrides)


class CannotWrite(ConfigError):
    """Nothing is wrong with what was asked, but there is no room or no permission for what comes of it."""


def cannot_write(folder: Path, error: OSError) -> CannotWrite:
    """What the user may read of an `out` that cannot be written to."""
    return CannotWrite(f"cannot write to {error.filename or folder}: {error.strerror or error}; choose another `out`")


@contextmanager
def writing_to(folder: Path, kept: str = "the rounds in its ledger are whole", line: str = "") -> Iterator[None]:
    """A full disk is the user's to mend: one line, that says what is `kept` and which `line` goes on (none given: the
    run's, if it was begun)."""
    try:
        yield
    except OSError as error:
        if not line and not (folder / LEDGER).exists():
            raise cannot_write(folder, error) from None
        raise CannotWrite(
            f"cannot write to {folder}: {error.strerror or error}; {kept}. Make room, then go on by  "
            f"{line or resume_line(folder)}"
        ) from None


def write_whole(path: Path, text: str) -> None:
    """The whole text or what was there before."""
    with whole_file(path) as file:
        file.write(text.encode())


def resume_line(run_dir: Path) -> str:
    """The command that goes on with a run."""
    return f"python -m zorba_ray.run --resume {shlex.quote(str(run_dir))}"
