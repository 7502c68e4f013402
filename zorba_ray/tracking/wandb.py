"""Weights & Biases: a run in the project that WANDB_PROJECT names; WANDB_MODE=offline keeps it in the run's folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from zorba_ray.tracking.tracker import Begun


class Wandb:
    """A run object of its own: nothing that others in this process share. The step is the number of rounds done."""

    def __init__(self, begun: Begun):
        import wandb

        known = begun.own("wandb.run")
        if not (begun.rounds and known.exists()):
            known.write_text(secrets.token_hex(8), encoding="utf-8")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "zorba_ray"), name=begun.name, dir=str(known.parent),
            id=known.read_text(encoding="utf-8"), config=dict(begun.config), resume="allow", reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip

    def log(self, rounds: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=rounds)

    def close(self) -> None:
        self._run.finish()


def open(begun: Begun) -> Wandb:
    return Wandb(begun)
