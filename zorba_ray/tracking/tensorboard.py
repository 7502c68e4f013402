"""TensorBoard: event files in the run's tracking/tensorboard, for `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping

from zorba_ray.tracking.tracker import Begun


class TensorBoard:
    def __init__(self, begun: Begun):
        from torch.utils.tensorboard import SummaryWriter

        again = begun.rounds + 1 if begun.rounds else None  # what was told of later rounds is taken back
        self._writer = SummaryWriter(str(begun.own("tensorboard")), purge_step=again, flush_secs=10)
        self._writer.add_text("config", "\n".join(f"    {k}: {v}" for k, v in begun.config.items()), begun.rounds)

    def log(self, rounds: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, rounds)

    def close(self) -> None:
        self._writer.close()


def open(begun: Begun) -> TensorBoard:
    return TensorBoard(begun)
