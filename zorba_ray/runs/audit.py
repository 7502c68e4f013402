"""One client's part in one round, computed again from config and ledger and compared with what was recorded of it.

Scalars are recorded to the bit, so they are compared. Tensors are not recorded: of a method with gradients the round's
step is made again, by all whose reports made it, and compared with the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.ledger import Entry, entry_text, read_ledger
from zorba_ray.messages import Report, Reports
from zorba_ray.methods import has_gradients
from zorba_ray.methods.fit import fused
from zorba_ray.records.schema import ClientRecord
from zorba_ray.rounds.groups import groups_of
from zorba_ray.runs.bound import refuse_another_run
from zorba_ray.runs.folder import LEDGER, stored_config
from zorba_ray.runs.replay import refuse_another_base
from zorba_ray.runs.retrace import Retraced, retrace, server_of
from zorba_ray.runs.summary import FILE, environment, read_summary, unlike
from zorba_ray.world.faults import liars, lie

NUMBERS = {  # of a record, and what its report calls them
    "loss": "loss", "forwards": "block_evaluations", "flops": "flops", "backward_flops": "backward_flops",
    "bytes_up": "upload",
}  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """What was compared, and where it differs; `elsewhere`: in what this machine is another than the one that recorded
    it."""

    client: int
    round: int
    compared: tuple[str, ...]
    differs: tuple[str, ...]
    elsewhere: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all that was compared is what was recorded, to the bit."""
        return not self.differs


def audit(folder: Path, client: int, round: int) -> Audit:
    """Replay to the round, let the client do its part again, and compare to the bit."""
    import torch

    from zorba_ray.runs.prepare import build_host, read

    config, ledger = stored_config(folder), read_ledger(folder / LEDGER)
    refuse_another_run(config, folder)
    if not 0 <= round < len(ledger.entries):
        raise ConfigError(f"the ledger of {folder} has rounds 0 to {len(ledger.entries) - 1}, and no round {round}")
    recorded = read_summary(folder).environment if (folder / FILE).is_file() else {}
    device = "cuda" if recorded.get("device") == "cuda" and torch.cuda.is_available() else "cpu"
    threads = int(recorded.get("threads", 1))
    torch.set_num_threads(threads)
    base, outline = read(config)
    refuse_another_base(outline.header.base_sha256, ledger.header, folder, config)
    server = server_of(folder, config, outline.samples)
    found = next((each for each in retrace(folder, server, ledger) if each.entry.round == round), None)
    if found is None:
        raise ConfigError(f"the records of {folder} have gaps before round {round}; --verify tells which")
    record = recorded_of(found, client, config)
    host = build_host(base, device)
    host.apply([entry.step for entry in ledger.entries[:round]])
    who = found.event.judged.counted.client.tolist() if has_gradients(config) else []
    asked = sorted({client, *who, *beside(config, found, client)})
    reports = {
        report.client: as_received(config, round, report)
        for report in host.probe(found.event.plan, asked, found.active[asked])
    }
    differs = list(differences(record, reports[client]))
    compared = [f"{len(record.scalars)} scalars"] if record.scalars else []
    compared += [name for name in NUMBERS if name != "backward_flops" or record.backward_flops]
    if who:
        judged = replace(found.event.judged, counted=Reports.of([reports[n] for n in who]))
        compared.append(f"the round's step, made again by its {len(who)} clients, with the ledger's tensors")
        if entry_text(Entry(server.step(found.event.plan, judged), found.entry.loss)) != entry_text(found.entry):
            differs.append("the step of the round is another than the ledger's")
    here = environment(threads, device)
    return Audit(client, round, tuple(compared), tuple(differs), tuple(unlike(recorded, here)))


def beside(config: Config, found: Retraced, client: int) -> list[int]:
    """The clients with whom a client shared products in a round."""
    members = np.array(found.event.plan.participants, dtype=np.int64)
    groups = groups_of(found.active[members], fused(config))
    return next((members[group].tolist() for group in groups if client in members[group]), [])


def recorded_of(found: Retraced, client: int, config: Config) -> ClientRecord:
    """The record of a client that did compute."""
    members = {each.client: each for each in found.told.members}
    if client not in members:
        known = f"its clients are {', '.join(map(str, members))}" if members else "nobody did"
        raise ConfigError(f"client {client} took no part in round {found.entry.round}; {known}")
    if members[client].status == "dropped" or not (members[client].scalars or has_gradients(config)):
        raise ConfigError(
            f"client {client} sent nothing in round {found.entry.round} ({members[client].status}): nothing can be "
            f"compared"
        )
    return members[client]


def as_received(config: Config, round: int, report: Report) -> Report:
    """What the server received: of a liar, its lie."""
    lied = liars(config)[report.client] and report.status == "ok"
    return lie(config.faults, config.seed, round, report) if lied else report


def differences(record: ClientRecord, report: Report) -> Iterator[str]:
    """Numbers that are not the recorded ones, to the bit."""
    then, now = np.array(record.scalars, dtype=np.float32), report.scalars
    if then.shape != now.shape:
        yield f"{len(then)} scalars are recorded, and {len(now)} come out"
    else:
        others = np.flatnonzero(then.view(np.uint32) != now.view(np.uint32))
        for j in others[:1]:
            yield f"{len(others)} of {len(then)} scalars, first number {j}: {then[j]:.9g} recorded, {now[j]:.9g} now"
    for name, attribute in NUMBERS.items():
        was, is_now = getattr(record, name), getattr(report, attribute)
        if was != is_now and not (np.isnan(was) and np.isnan(is_now)):
            yield f"{name}: {was!r} recorded, {is_now!r} now"
