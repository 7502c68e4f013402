"""The simulated world around the clients, from round to round: a state machine that the training loop and a resumed run
drive alike.

A round `begin`s (who is chosen, who of them drops out, what they download), is `judge`d from the reports (who lies, who
is late, who is left out, what late reports of earlier rounds arrive), and is `end`ed by its step. A resumed run goes
through the same with the records of its rounds in place of reports, and arrives at the same state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, Step
from zorba_ray.world.availability import Availability
from zorba_ray.world.budgets import Budgets
from zorba_ray.world.clock import close_round, fleet_of
from zorba_ray.world.faults import is_finite, liars, lie, outliers
from zorba_ray.world.participation import choose, dropped
from zorba_ray.world.traffic import Wire

Floats = NDArray[np.float64]


class Diverged(ConfigError):
    """The run went wrong; the ledger ends at the last good round."""


@dataclass(frozen=True)
class Chosen:
    """Who was asked in a round that begins at virtual second `start`: all in ascending order [C]."""

    round: int
    start: float
    clients: NDArray[np.int64]
    dropped: NDArray[np.bool_]
    wanted: int  # reports to wait for
    downloads: NDArray[np.int64]  # bytes of what each had missed

    @property
    def reporting(self) -> tuple[int, ...]:
        """Those who compute: to whom the work of the round goes."""
        return tuple(int(n) for n in self.clients[~self.dropped])


@dataclass(frozen=True)
class Fate:
    """What became of one chosen client: `report` is what the server received, None from who dropped out."""

    client: int
    status: str  # ok | dropped | late | nan | outlier, or what its host said of it, as out_of_memory
    report: Report | None
    download: int
    seconds: float | None  # virtual, from the round's beginning; None: no virtual clock
    lied: bool


@dataclass(frozen=True)
class Pending:
    """A late report under way, which reaches the server at virtual second `arrival`."""

    round: int
    arrival: float
    report: Report


@dataclass(frozen=True)
class Judged:
    """A round as the server sees it at its end, at virtual second `now` (None: no virtual clock)."""

    chosen: Chosen
    fates: list[Fate]
    counted: list[Report]  # this round's, in ascending order of clients
    arrived: list[Pending]  # of earlier rounds, by round and client
    now: float | None

    def count(self, *statuses: str) -> int:
        return sum(fate.status in statuses for fate in self.fates)


class World:
    """State between rounds: the virtual time, late reports under way, and what each client has downloaded."""

    def __init__(self, config: Config, budgets: Budgets, samples: Floats, wire: Wire):
        self.config = config
        self.fleet = fleet_of(config, budgets)
        self.now = 0.0
        self.pending: list[Pending] = []
        self.wire = wire
        self._samples = samples
        self._liars = liars(config)
        self._availability = Availability(config.participation, config.seed, config.clients.count)

    def begin(self, round: int, active: NDArray[np.bool_]) -> Chosen:
        """Choose, with a [N, L] of the round. With nobody available, the virtual clock moves on to when somebody comes,
        or comes free; where nobody will within this round, nobody is chosen and the round is empty."""
        start, section = self.now, self.config.participation
        while True:
            free = self._availability.at(round, start)
            free[[late.report.client for late in self.pending if late.arrival > start]] = False
            if free.any():
                break
            later = [late.arrival for late in self.pending if late.arrival > start]
            if not later or section.trace_unit == "seconds":
                later.append(self._availability.next_begin(round, start))
            if not math.isfinite(min(later)):
                break
            start = min(later)
        clients, wanted = choose(section, self.config.seed, round, free, self._samples)
        gone = dropped(section, self.config.seed, round, clients, self.config.clients.count)
        return Chosen(round, start, clients, gone, wanted, self.wire.download(clients, active))

    def judge(self, chosen: Chosen, reports: Sequence[Report]) -> Judged:
        """From the reports of those who did not drop out, what the server sees and what it makes of it."""
        config, t = self.config, chosen.round
        received = {report.client: self._told(t, report) for report in reports}
        arrivals = self._arrivals(chosen, received)
        useless = [n not in received or unusable(received[n]) != "" for n in chosen.clients.tolist()]
        waited = np.where(useless, np.inf, arrivals)  # the server goes on waiting for another
        in_time, lasted = close_round(waited, chosen.wanted, config.participation.deadline)
        status = self._statuses(chosen, received, in_time)
        fates = [
            Fate(
                client=int(n),
                status=status[int(n)],
                report=received.get(int(n)),
                download=int(chosen.downloads[i]),
                seconds=float(arrivals[i]) if self.fleet and math.isfinite(arrivals[i]) else None,
                lied=bool(self._liars[n]) and int(n) in received,
            )
            for i, n in enumerate(chosen.clients)
        ]
        end = chosen.start + lasted
        arrived = [late for late in self.pending if late.arrival <= end]
        counted = [received[fate.client] for fate in fates if fate.status == "ok"]
        judged = Judged(chosen, fates, counted, arrived, end if self.fleet else None)
        self._refuse(judged)
        return judged

    def end(self, judged: Judged, step: Step) -> None:
        """Move on to the next round."""
        self._move(judged.chosen, judged.fates, judged.now, step, len(judged.counted))

    def _move(self, chosen: Chosen, fates: Sequence[Fate], now: float | None, step: Step, reports: int) -> None:
        self.wire.add(step, reports)
        if now is None:
            return
        self.now = now
        self.pending = [late for late in self.pending if late.arrival > self.now]
        if self.config.participation.late == "keep":
            for fate in fates:
                if fate.status == "late":
                    assert fate.report is not None and fate.seconds is not None
                    self.pending.append(Pending(chosen.round, chosen.start + fate.seconds, fate.report))

    def recall(
        self, active: NDArray[np.bool_], now: float | None, late: Sequence[tuple[Report, float]], step: Step,
        reports: int,
    ) -> None:  # fmt: skip
        """Go through a round that was done before: a [N, L] of it, the time at its end, its late reports with their
        virtual seconds, its step and of how many reports that was made."""
        chosen = self.begin(step.round, active)
        fates = [Fate(report.client, "late", report, 0, seconds, False) for report, seconds in late]
        self._move(chosen, fates, now, step, reports)

    def _told(self, round: int, report: Report) -> Report:
        if self._liars[report.client] and report.status == "ok":
            return lie(self.config.faults, self.config.seed, round, report)
        return report

    def _arrivals(self, chosen: Chosen, received: Mapping[int, Report]) -> Floats:
        """Virtual seconds of each of the chosen [C], infinity for those who drop out; 0 without a virtual clock."""
        arrivals = np.where(chosen.dropped, np.inf, 0.0)
        who = chosen.clients[~chosen.dropped]
        if self.fleet is not None and len(who):
            reports = [received[int(n)] for n in who]
            arrivals[~chosen.dropped] = self.fleet.seconds(
                chosen.round,
                who,
                chosen.downloads[~chosen.dropped].astype(np.float64),
                np.array([report.flops for report in reports]),
                np.array([report.backward_flops for report in reports]),
                np.array([report.upload for report in reports], dtype=np.float64),
                np.array([report.bus for report in reports], dtype=np.float64),
            )
        return arrivals

    def _statuses(
        self, chosen: Chosen, received: Mapping[int, Report], in_time: NDArray[np.bool_]
    ) -> dict[int, str]:
        """Status of each of the chosen."""
        status = {}
        for n, gone, on_time in zip(chosen.clients.tolist(), chosen.dropped, in_time, strict=True):
            if gone:
                status[n] = "dropped"
            else:
                status[n] = unusable(received[n]) or ("ok" if on_time else "late")
        if self.config.faults.outlier > 0:
            judges = [received[n].scalars for n, what in status.items() if what == "ok"]
            judged = [n for n, what in status.items() if what in ("ok", "late")]
            vectors = [received[n].scalars for n in judged]
            limit, comparable = self.config.faults.outlier, self.config.zo.shared
            for n, out in zip(judged, outliers(limit, judges, vectors, comparable), strict=True):
                status[n] = "outlier" if out else status[n]
        return status

    def _refuse(self, judged: Judged) -> None:
        """Stop where it is not some clients' fault: divergence, or too few who can be counted."""
        t, faults = judged.chosen.round, self.config.faults
        reported = sum(fate.report is not None for fate in judged.fates)
        strange, remain = judged.count("nan"), judged.count("ok", "late")
        if strange > reported / 2:
            who = "every client" if strange == reported else f"{strange} of {reported} clients"
            raise Diverged(
                f"diverged at round {t}: {who} reported a loss or scalars that are not finite; the ledger keeps the "
                f"{t} good rounds. Lower step.lr or zo.mu"
            )
        if remain < min(reported, faults.min_clients):
            statuses = sorted({fate.status for fate in judged.fates} - {"ok", "late", "dropped"})
            raise ConfigError(
                f"round {t}: {reported - remain} of {reported} reports were left out ({', '.join(statuses)}), and "
                f"{remain} remain; faults.min_clients is {faults.min_clients}. The ledger keeps the {t} good rounds"
            )


def unusable(report: Report) -> str:
    """Why a report is of no use by itself; empty: it is."""
    if report.status != "ok":
        return report.status
    return "" if is_finite(report) else "nan"
