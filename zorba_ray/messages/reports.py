"""The reports of many clients as arrays: what a round handles by the ten thousand is no object each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from zorba_ray.messages.report import Report, VectorLayout

STATUSES = ("ok", "late", "dropped", "nan", "outlier", "out_of_memory", "lost", "statistics")  # by number
OK, LATE, DROPPED, NAN, OUTLIER = range(5)
NUMBER_OF = {name: number for number, name in enumerate(STATUSES)}
KINDS: dict[str, type] = {  # of the numbers that every report has
    "client": np.int64, "loss": np.float64, "examples": np.int64, "block_evaluations": np.int64, "flops": np.float64,
    "seconds": np.float64, "backward_flops": np.float64, "upload": np.int64, "bus": np.int64,
    "measured_bytes": np.int64, "allocated_bytes": np.int64, "hidden": np.int64,
}  # fmt: skip
Vectors = tuple[NDArray[np.float32] | None, ...] | None


@dataclass(frozen=True, eq=False)
class Reports(Sequence[Report]):
    """C reports: a sequence of `Report`, made when one is asked for. Each array is [C], named as in `Report`; `values`
    float32 holds all scalars one after the other, `counts` of them of each; `status` indexes `STATUSES`. `vectors` and
    `layouts` (first-order) are empty where nobody has any."""

    client: NDArray[np.int64]
    values: NDArray[np.float32]
    counts: NDArray[np.int64]
    status: NDArray[np.int8]
    loss: NDArray[np.float64]
    examples: NDArray[np.int64]
    block_evaluations: NDArray[np.int64]
    flops: NDArray[np.float64]
    seconds: NDArray[np.float64]
    backward_flops: NDArray[np.float64]
    upload: NDArray[np.int64]
    bus: NDArray[np.int64]
    measured_bytes: NDArray[np.int64]
    allocated_bytes: NDArray[np.int64]
    hidden: NDArray[np.int64]
    vectors: tuple[Vectors, ...] = ()
    layouts: tuple[tuple[VectorLayout, ...], ...] = ()

    @classmethod
    def of(cls, reports: Sequence[Report]) -> Reports:
        """Reports as they are, or single ones put together."""
        if isinstance(reports, cls):
            return reports
        whole = any(report.vectors is not None for report in reports)
        return cls(
            values=np.concatenate([np.zeros(0, np.float32), *(report.scalars for report in reports)]),
            counts=np.array([report.scalars.size for report in reports], dtype=np.int64),
            status=np.array([NUMBER_OF[report.status] for report in reports], dtype=np.int8),
            vectors=tuple(report.vectors for report in reports) if whole else (),
            layouts=tuple(report.layout for report in reports) if whole else (),
            **{
                name: np.array([getattr(report, name) for report in reports], dtype=kind)
                for name, kind in KINDS.items()
            },
        )

    @classmethod
    def joined(cls, parts: Sequence[Reports]) -> Reports:
        """One after the other."""
        parts = [part for part in parts if len(part)] or [cls.of([])]
        whole = any(part.vectors for part in parts)
        arrays = [field.name for field in fields(cls) if field.name not in ("vectors", "layouts")]
        return cls(
            vectors=tuple(each for part in parts for each in part.vectors or (None,) * len(part)) if whole else (),
            layouts=tuple(each for part in parts for each in part.layouts or ((),) * len(part)) if whole else (),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
        )

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where the scalars of each begin and end in `values`, [C + 1]."""
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.counts)])

    def take(self, which: NDArray[Any]) -> Reports:
        """Some of them, by a mask or by their positions."""
        which = np.flatnonzero(which) if which.dtype == np.bool_ else which
        if np.array_equal(which, np.arange(len(self))):
            return self
        few = replace(self, **{name: getattr(self, name)[which] for name in (*KINDS, "status", "counts")})
        values = self.values[ranges(self.ends[which], self.counts[which])]
        vectors = tuple(self.vectors[i] for i in which) if self.vectors else ()
        layouts = tuple(self.layouts[i] for i in which) if self.layouts else ()
        return replace(few, values=values, vectors=vectors, layouts=layouts)

    def in_order(self) -> Reports:
        """In ascending order of clients."""
        return self.take(np.argsort(self.client, kind="stable"))

    def finite(self) -> NDArray[np.bool_]:
        """Of whom all that was sent is a number, [C]."""
        wrong = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(~np.isfinite(self.values))])
        fine = np.isfinite(self.loss) & (wrong[self.ends[1:]] == wrong[self.ends[:-1]])
        for i, vectors in enumerate(self.vectors):
            fine[i] &= all(bool(np.isfinite(vector).all()) for vector in vectors or () if vector is not None)
        return np.asarray(fine)

    def __len__(self) -> int:
        return len(self.client)

    @overload
    def __getitem__(self, i: int) -> Report: ...

    @overload
    def __getitem__(self, i: slice) -> Reports: ...

    def __getitem__(self, i: int | slice) -> Report | Reports:
        if isinstance(i, slice):
            return self.take(np.arange(len(self))[i])
        i = range(len(self))[i]
        return Report(
            scalars=self.values[self.ends[i] : self.ends[i + 1]],
            status=STATUSES[self.status[i]],
            vectors=self.vectors[i] if self.vectors else None,
            layout=self.layouts[i] if self.layouts else (),
            **{name: getattr(self, name)[i].item() for name in KINDS},
        )

    def __iter__(self) -> Iterator[Report]:
        return (self[i] for i in range(len(self)))


def ranges(begins: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """begins[0] … begins[0] + counts[0] − 1, and so on for each, one after the other."""
    skipped = begins - (np.cumsum(counts) - counts)
    return np.repeat(skipped, counts) + np.arange(counts.sum())


def scalars_of(reports: Sequence[Report]) -> NDArray[np.float32]:
    """ρ [C, J] of reports with equally many scalars."""
    if not isinstance(reports, Reports):
        return np.stack([report.scalars for report in reports])
    assert (reports.counts == reports.counts[0]).all(), "reports with unlike numbers of scalars"
    return reports.values.reshape(len(reports), -1)


def clients_of(reports: Sequence[Report]) -> NDArray[np.int64]:
    """Who reported, [C]."""
    if isinstance(reports, Reports):
        return reports.client
    return np.array([report.client for report in reports], dtype=np.int64)
