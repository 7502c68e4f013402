"""Whether a run's folder is whole: every file against every other that says the same, as far as nothing is trained."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import Entry, Ledger, entry_text, ledger_sha256, read_ledger
from zorba_ray.ledger.snapshot import kept, oldest_round, read_snapshots
from zorba_ray.ledger.tensors import FOLDER, TensorFile, file_name
from zorba_ray.messages import TensorStep, no_step
from zorba_ray.messages.reports import STATUSES
from zorba_ray.methods import has_gradients
from zorba_ray.records.stream import parts, read_parts
from zorba_ray.rounds.loop import is_due
from zorba_ray.runs.bound import refuse_another_run
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.retrace import Retraced, retrace, samples_of, server_of, tell
from zorba_ray.runs.session import round_record
from zorba_ray.runs.summary import FILE, read_summary, summarise

MOST = 4  # problems of one check that are told; of the others the number


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found in order, or what was not."""

    name: str
    found: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verified:
    """What came of walking through a run's folder."""

    folder: Path
    checks: tuple[Check, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing was found wrong."""
        return not any(check.wrong for check in self.checks)


def verify(folder: Path) -> Verified:
    """Ledger and tensors against their seals and digests, the config against what it was, and the records against the
    ledger: who took part, what every round adds up to, and its step, made again from the recorded scalars."""
    config = stored_config(folder)
    try:
        ledger = read_ledger(folder / LEDGER)
    except ConfigError as error:
        return Verified(folder, (Check("ledger", "", (str(error),)),))
    looks: list[tuple[str, Callable[[Path, Config, Ledger], Check]]] = [
        ("ledger", sealed), ("config", bound), ("tensors", tensors), ("snapshots", snapshots), ("records", complete),
        ("rounds", rounds), ("summary", summary),
    ]  # fmt: skip
    return Verified(folder, tuple(looked(name, look, folder, config, ledger) for name, look in looks))


def looked(
    name: str, look: Callable[[Path, Config, Ledger], Check], folder: Path, config: Config, ledger: Ledger
) -> Check:
    """A check that meets a file that cannot be read has found something."""
    try:
        return look(folder, config, ledger)
    except ConfigError as error:
        return Check(name, "", (str(error),))


def check(name: str, found: str, wrong: list[str]) -> Check:
    more = (f"and {len(wrong) - MOST} more",) if len(wrong) > MOST else ()
    return Check(name, found, (*wrong[:MOST], *more))


def sealed(folder: Path, config: Config, ledger: Ledger) -> Check:
    """Reading it verified the chain."""
    wrong = [f"its last line is torn ({ledger.cut}); going on with the run cuts it off"] if ledger.cut else []
    return check("ledger", f"{len(ledger.entries)} rounds, each line's seal follows from those before it", wrong)


def bound(folder: Path, config: Config, ledger: Ledger) -> Check:
    notes = refuse_another_run(config, folder)
    return check("config", notes[0] if notes else "what decides the ledger is as it was when the ledger was begun", [])


def tensors(folder: Path, config: Config, ledger: Ledger) -> Check:
    steps = [entry.step for entry in ledger.entries if isinstance(entry.step, TensorStep)]
    forgotten = oldest_round(folder) if config.checkpoint.tensors else 0
    wrong, gone = [], 0
    for step in steps:
        assert isinstance(step.held, TensorFile)
        if step.round < forgotten and not step.held.path.exists():
            gone += 1
            continue
        try:
            blocks = set(step.held.load())
        except ConfigError as error:
            wrong.append(str(error))
            continue
        if blocks != {block for block, on in enumerate(step.blocks) if on}:
            wrong.append(f"{step.held.path} has other blocks than its entry says")
    named = {file_name(step.round) for step in steps}
    wrong += [
        f"{path} belongs to no round of the ledger"
        for path in sorted((folder / FOLDER).glob("round-*.safetensors")) if path.name not in named
    ]
    if not steps:
        return check("tensors", "none: every step follows from seeds and coefficients", wrong)
    let_go = f"; {gone} were let go of (checkpoint.tensors)" if gone else ""
    return check("tensors", f"{len(steps) - gone} files with the SHA-256 that the ledger has{let_go}", wrong)


def snapshots(folder: Path, config: Config, ledger: Ledger) -> Check:
    """Those that lie on this ledger have the vectors that their digest says; others are passed over by everybody."""
    from zorba_ray.rounds.host import vectors_sha256

    there = list(read_snapshots(folder, ledger.seals))
    wrong = [
        f"the snapshot of round {each.rounds} is not what its digest says; it may be deleted"
        for each in there if vectors_sha256(each.vectors) != each.sha256
    ]
    others = len(kept(folder)) - len(there)
    wrong += [f"{others} snapshots are damaged or of another run; they may be deleted"] if others else []
    return check("snapshots", f"{len(there)}, each with the weights of its digest" if there else "none", wrong)


def complete(folder: Path, config: Config, ledger: Ledger) -> Check:
    """Each round and each evaluation that was due, once."""
    seen: list[int] = []
    evaluated: list[int] = []
    clients = 0
    for told in tell(folder):
        clients += len(told.clients)
        seen += [told.round.round] if told.round is not None else []
        evaluated += [told.evaluation.round] if told.evaluation is not None else []
    done = len(ledger.entries)
    wrong = [f"round {t} is in the ledger and not in the records" for t in sorted(set(range(done)) - set(seen))]
    wrong += [f"round {t} is in the records and not in the ledger" for t in sorted(set(seen) - set(range(done)))]
    wrong += [f"round {t} is recorded {seen.count(t)} times" for t in sorted(set(seen)) if seen.count(t) > 1]
    due = {t for t in range(done + (done == config.rounds)) if is_due(config, t)}  # an interrupted run's last may wait
    wrong += [f"the evaluation after {t} rounds is not in the records" for t in sorted(due - set(evaluated))]
    files = len(parts(folder))
    found = f"{done} rounds, {clients} reports of clients, {len(evaluated)} evaluations in {files} files"
    return check("records", found, wrong)


def rounds(folder: Path, config: Config, ledger: Ledger) -> Check:
    """Every round made again from its records."""
    samples = samples_of(folder, config.clients.count)
    unknown = int((samples == 0).sum())
    if unknown and config.participation.choice == "samples":
        return check("rounds", f"not made again: who is drawn depends on the data of {unknown} clients that no record "
                               f"names", [])  # fmt: skip
    wrong: list[str] = []
    count = late = 0
    for each in retrace(folder, server_of(folder, config, samples), ledger):
        wrong += [f"round {each.entry.round}: {problem}" for problem in differences(each, ledger)]
        count += 1
        late += len(each.event.judged.arrived)
    remade = "losses" if has_gradients(config) else "losses and steps"
    with_late = f", {late} late reports among them" if late else ""
    found = f"{count} made again from their clients' records{with_late}: who took part, downloads, totals, {remade}"
    return check("rounds", f"{found} to the bit", wrong)


def differences(each: Retraced, ledger: Ledger) -> Iterator[str]:
    """What a round's records say otherwise than its seed, its clients or the ledger."""
    event, told, chosen = each.event, each.told, each.event.judged.chosen
    fates = event.judged.fates
    if not np.array_equal(fates.client, chosen.clients):
        yield f"clients {fates.client.tolist()} are recorded, and the seed chooses {chosen.clients.tolist()}"
        return
    for i in np.flatnonzero(fates.reported == chosen.dropped):
        yield f"client {fates.client[i]} is recorded as {STATUSES[fates.status[i]]}, and the seed says otherwise"
    for i in np.flatnonzero(fates.download != chosen.downloads):
        yield (f"client {fates.client[i]} downloaded {fates.download[i]} bytes by its record, and "
               f"{chosen.downloads[i]} by what it missed")  # fmt: skip
    for client in told.members:
        if client.active_blocks != int(each.active[client.client].sum()):
            yield f"client {client.client} is recorded with {client.active_blocks} blocks, and its plan has others"
    assert told.round is not None
    tensors = isinstance(event.step, TensorStep)  # which are checked by themselves
    nothing = no_step(event.plan.round, event.plan.lr, len(ledger.header.blocks))
    plain = replace(event, step=nothing) if tensors else event
    sent = sum(client.bytes_up for client in told.clients), sum(client.bytes_down for client in told.clients)
    again = round_record(plain, sent, ledger.header, told.round.seconds, told.round.epsilon)
    for name, value in vars(again).items():
        if not (tensors and name in ("step_norm", "residual")) and not same(value, getattr(told.round, name)):
            yield f"{name} is recorded as {getattr(told.round, name)}, and the clients' records make {value}"
    if not same(event.loss, each.entry.loss):
        yield f"the ledger's loss is {each.entry.loss}, and the clients' records make {event.loss}"
    if entry_text(Entry(event.step, each.entry.loss)) != entry_text(each.entry):
        yield "the recorded scalars make another step than the ledger's"


def summary(folder: Path, config: Config, ledger: Ledger) -> Check:
    """Every total again from the records."""
    if not (folder / FILE).is_file():
        return check("summary", "none: the run goes on, or was killed", [])
    told = read_summary(folder)
    if told.ledger_sha256 != ledger_sha256(folder / LEDGER):
        return check("summary", "", ["it is of another ledger: the run goes on, or a file was put here"])
    again = summarise(
        config, read_parts(folder), folder / LEDGER, told.placement, told.model_sha256, told.seconds, told.environment,
        told.interrupted, told.stopped, told.notes,
    )  # fmt: skip
    ours, theirs = (json.loads(json.dumps(finite(dataclasses.asdict(each)))) for each in (again, told))
    names = [name for name in ours if name not in ("version", "ledger_bytes")]  # tensors go with old rounds
    wrong = [
        f"{name} is {theirs[name]}, and the records make {ours[name]}"
        for name in names if ours[name] != theirs[name]
    ]
    return check("summary", f"{len(names)} entries as config, records and ledger have them", wrong)


def finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in values.items()}


def same(a: Any, b: Any) -> bool:
    """Equal, NaN to itself too."""
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b))
