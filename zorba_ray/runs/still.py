"""Whether a run moves anything at all: steps and perturbations so small that float32 drops them are said, once each."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.schema import Config
from zorba_ray.messages import Reports, Step, TensorStep
from zorba_ray.rounds.loop import RoundDone

ULP = 2.0**-24  # of a float32, relative: what is less of a number is lost when it is added to it
LOST = 0.25  # of that: of a normal weight nothing is left but luck
NOISE = 8.0  # of that: losses that differ by less differ by rounding


class Still:
    """Rounds in order. `scales` [L]: root mean square of the weights of each block."""

    def __init__(self, config: Config, scales: NDArray[np.float64]):
        self._config = config
        self._scales = np.maximum(scales, 1e-30)
        self._said = {"lr": False, "mu": False}

    def seen(self, event: RoundDone) -> list[str]:
        """What to tell of a round."""
        lines = {"lr": self._of_step(event.step), "mu": self._of_scalars(event.judged.counted)}
        new = [line for name, line in lines.items() if line and not self._said[name]]
        self._said = {name: said or bool(lines[name]) for name, said in self._said.items()}
        return new

    def _of_step(self, step: Step) -> str:
        """At the full rate only: warm-up and decay are meant to be small."""
        lr, lengths = self._config.step.lr, block_rms(step, len(self._scales))
        if lengths is None or lr == 0 or step.lr != lr or not step.moved().any():
            return ""
        share = float((lengths / self._scales).max())
        if not share < LOST * ULP:  # NaN is somebody else's to tell
            return ""
        return (f"step.lr={lr:g} moves nothing: the step of round {step.round} is {share:.0e} of the weights, and "
                f"float32 resolves {ULP:.0e}. Raise step.lr")  # fmt: skip

    def _of_scalars(self, reports: Reports) -> str:
        zo, scalars = self._config.zo, reports.values
        if not scalars.size:
            return ""
        width = 2 * zo.mu if zo.estimator == "central" else zo.mu
        apart = width * float(np.sqrt(np.square(scalars, dtype=np.float64).mean()))
        loss = float(np.abs(reports.loss).mean())
        if not apart <= NOISE * ULP * loss:
            return ""
        return (f"zo.mu={zo.mu:g} is lost in rounding: perturbed losses differ by {apart:.0e} of {loss:.3g}, and "
                f"float32 resolves {ULP:.0e} of it. Raise zo.mu")  # fmt: skip


def block_rms(step: Step, blocks: int) -> NDArray[np.float64] | None:
    """How far a step is expected to move a weight of each block, [L]: directions have unit variance. None where it sets
    weights anew."""
    if isinstance(step, TensorStep):
        if step.whole:
            return None
        found = np.zeros(blocks)
        for block, vector in step.vectors.items():
            found[block] = math.sqrt(float(np.square(vector, dtype=np.float64).mean()))
        return found
    return np.array([math.sqrt(sum(c**2 for _, c in step.terms(0, block))) for block in range(blocks)])
