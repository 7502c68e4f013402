"""The simulated world around the clients, from round to round: a state machine that the training loop and a resumed run
drive alike.

A round `begin`s (who is chosen, who of them drops out, what they download), is `judge`d from the reports (who lies, who
is late, who is left out, what late reports of earlier rounds arrive), and is `end`ed by its step. A resumed run goes
through the same with the records of its rounds in place of reports, and arrives at the same state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config
from zorba_ray.messages import Report, Reports, Step
from zorba_ray.messages.reports import DROPPED, LATE, NAN, NUMBER_OF, OK, OUTLIER, STATUSES
from zorba_ray.world.availability import Availability
from zorba_ray.world.budgets import Budgets
from zorba_ray.world.clock import close_round, fleet_of
from zorba_ray.world.faults import liars, lie, outliers
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
        return tuple(self.clients[~self.dropped].tolist())


@dataclass(frozen=True, eq=False)
class Fates:
    """What became of the chosen clients, [C] each: `status` indexes `STATUSES` (ok | dropped | late | nan | outlier, or
    what the host said, as out_of_memory), `seconds` are virtual, from the round's beginning (NaN: no virtual clock, or
    it dropped out). `reports` are what the server received of those who did not drop out, in the same order."""

    client: NDArray[np.int64]
    status: NDArray[np.int8]
    download: NDArray[np.int64]
    seconds: Floats
    lied: NDArray[np.bool_]
    reports: Reports

    def __len__(self) -> int:
        return len(self.client)

    @property
    def reported(self) -> NDArray[np.bool_]:
        """From whom a report came, [C]."""
        return np.asarray(self.status != DROPPED)

    def of_status(self, status: int) -> Reports:
        """The reports of those with a status."""
        return self.reports.take(self.status[self.reported] == status)

    @property
    def late(self) -> list[tuple[Report, float]]:
        """Reports that came too late, with their virtual seconds."""
        return list(zip(self.of_status(LATE), self.seconds[self.status == LATE].tolist(), strict=True))


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
    fates: Fates
    counted: Reports  # this round's, in ascending order of clients
    arrived: list[Pending]  # of earlier rounds, by round and client
    now: float | None

    def count(self, *statuses: str) -> int:
        return int(np.isin(self.fates.status, [NUMBER_OF[name] for name in statuses]).sum())


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
        received = self._told(chosen.round, Reports.of(reports))
        arrivals = self._arrivals(chosen, received)
        useless = np.ones(len(chosen.clients), dtype=np.bool_)
        faults = np.where(received.status != OK, received.status, np.where(received.finite(), OK, NAN))
        useless[~chosen.dropped] = faults != OK
        waited = np.where(useless, np.inf, arrivals)  # the server goes on waiting for another
        in_time, lasted = close_round(waited, chosen.wanted, self.config.participation.deadline)
        status = np.full(len(chosen.clients), DROPPED, dtype=np.int8)
        status[~chosen.dropped] = np.where(faults != OK, faults, np.where(in_time[~chosen.dropped], OK, LATE))
        fates = Fates(
            client=chosen.clients,
            status=self._without_outliers(received, status),
            download=chosen.downloads,
            seconds=np.where(np.isfinite(arrivals), arrivals, np.nan) if self.fleet else np.full(len(arrivals), np.nan),
            lied=self._liars[chosen.clients] & ~chosen.dropped,
            reports=received,
        )
        end = chosen.start + lasted
        arrived = [late for late in self.pending if late.arrival <= end]
        judged = Judged(chosen, fates, fates.of_status(OK), arrived, end if self.fleet else None)
        self._refuse(judged)
        return judged

    def end(self, judged: Judged, step: Step) -> None:
        """Move on to the next round."""
        late = judged.fates.late if self.config.participation.late == "keep" else ()
        self._move(judged.chosen, late, judged.now, step, len(judged.counted))

    def _move(
        self, chosen: Chosen, late: Sequence[tuple[Report, float]], now: float | None, step: Step, reports: int
    ) -> None:
        self.wire.add(step, reports)
        if now is None:
            return
        self.now = now
        self.pending = [each for each in self.pending if each.arrival > self.now]
        if self.config.participation.late == "keep":
            self.pending += [Pending(chosen.round, chosen.start + seconds, report) for report, seconds in late]

    def recall(
        self, active: NDArray[np.bool_], now: float | None, late: Sequence[tuple[Report, float]], step: Step,
        reports: int,
    ) -> None:  # fmt: skip
        """Go through a round that was done before: a [N, L] of it, the time at its end, its late reports with their
        virtual seconds, its step and of how many reports that was made."""
        chosen = self.begin(step.round, active)
        self._move(chosen, late, now, step, reports)

    def _told(self, round: int, reports: Reports) -> Reports:
        """What the server receives: of liars, their lies."""
        lying = self._liars[reports.client] & (reports.status == OK)
        if not lying.any():
            return reports
        lies = [lie(self.config.faults, self.config.seed, round, report) for report in reports.take(lying)]
        return Reports.joined([reports.take(~lying), Reports.of(lies)]).in_order()

    def _arrivals(self, chosen: Chosen, received: Reports) -> Floats:
        """Virtual seconds of each of the chosen [C], infinity for those who drop out; 0 without a virtual clock."""
        arrivals = np.where(chosen.dropped, np.inf, 0.0)
        who = chosen.clients[~chosen.dropped]
        assert np.array_equal(who, received.client), "one report of everybody who did not drop out"
        if self.fleet is not None and len(who):
            arrivals[~chosen.dropped] = self.fleet.seconds(
                chosen.round,
                who,
                chosen.downloads[~chosen.dropped].astype(np.float64),
                received.flops,
                received.backward_flops,
                received.upload.astype(np.float64),
                (received.bus - received.hidden).astype(np.float64),
            )
        return arrivals

    def _without_outliers(self, received: Reports, status: NDArray[np.int8]) -> NDArray[np.int8]:
        """The statuses [C], of those who lie too far out another."""
        if self.config.faults.outlier > 0:
            came = np.flatnonzero(status != DROPPED)
            judged = [i for i in range(len(received)) if status[came[i]] in (OK, LATE)]
            vectors = [received[i].scalars for i in judged]
            judges = [vector for i, vector in zip(judged, vectors, strict=True) if status[came[i]] == OK]
            limit, comparable = self.config.faults.outlier, self.config.zo.shared
            out = np.array(outliers(limit, judges, vectors, comparable), dtype=np.bool_)
            status[came[judged][out]] = OUTLIER
        return status

    def _refuse(self, judged: Judged) -> None:
        """Stop where it is not some clients' fault: divergence, or too few who can be counted."""
        t, faults = judged.chosen.round, self.config.faults
        reported = len(judged.fates.reports)
        strange, remain = judged.count("nan"), judged.count("ok", "late")
        if strange > reported / 2:
            who = "every client" if strange == reported else f"{strange} of {reported} clients"
            raise Diverged(
                f"diverged at round {t}: {who} reported a loss or scalars that are not finite; the ledger keeps the "
                f"{t} good rounds. Lower step.lr or zo.mu"
            )
        if remain < min(reported, faults.min_clients):
            statuses = sorted({STATUSES[i] for i in judged.fates.status.tolist()} - {"ok", "late", "dropped"})
            raise ConfigError(
                f"round {t}: {reported - remain} of {reported} reports were left out ({', '.join(statuses)}), and "
                f"{remain} remain; faults.min_clients is {faults.min_clients}. The ledger keeps the {t} good rounds"
            )
