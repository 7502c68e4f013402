"""trackio: a run in the project `zorba_ray` on this machine, for `trackio show`; TRACKIO_DIR says where it lies."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout

from zorba_ray.tracking.tracker import Begun


class Trackio:
    def __init__(self, begun: Begun):
        import trackio

        with redirect_stdout(io.StringIO()):
            self._run = trackio.init(
                project="zorba_ray", name=begun.name, config=dict(begun.config),
                resume="allow" if begun.rounds else "never", embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip

    def log(self, rounds: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=rounds)

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self._run.finish()


def open(begun: Begun) -> Trackio:
    return Trackio(begun)
