"""The virtual clock: how long client-rounds and rounds take on the simulated fleet. Wall time here decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import Config, Device
from zorba_ray.world.budgets import Budgets
from zorba_ray.world.streams import Stream, world

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fleet:
    """Each client's device and links, [N] each: FLOP/s, bits/s (infinity: takes no time) and seconds."""

    seed: int
    forward: Floats
    backward: Floats
    up: Floats
    down: Floats
    bus: Floats
    latency: Floats
    jitter: float
    pace: Floats  # FLOPs that a device computes while a byte crosses its bus

    def seconds(
        self, round: int, clients: NDArray[np.int64], down: Floats, flops: Floats, backward: Floats, up: Floats,
        bus: Floats,
    ) -> Floats:
        """Virtual seconds of client-rounds [C]: latency + download + FLOPs/speed + bus + upload; sizes in bytes,
        `bus` those that no computing hides.

        The round's luck slows device and link by a factor exp(jitter·g) each, g standard normal.
        """
        compute, link = factors(world(self.seed, Stream.JITTER, round), len(self.forward), self.jitter)[clients].T
        work = flops / self.forward[clients] + backward / self.backward[clients] + 8 * bus / self.bus[clients]
        travel = 8 * down / self.down[clients] + 8 * up / self.up[clients]
        return np.asarray(self.latency[clients] + work * compute + travel * link)


def factors(draw: np.random.Generator, count: int, sigma: float) -> Floats:
    """How many times slower device and link of each client are, [N, 2]: log-normal of median 1."""
    return np.exp(sigma * draw.standard_normal((count, 2)))


def fleet_of(config: Config, budgets: Budgets) -> Fleet | None:
    """The fleet of a run; None: no device is given, so there is no virtual time to speak of."""
    if not config.fleet.devices:
        return None
    named = {device.budget: device for device in config.fleet.devices}
    unknown = sorted(named.keys() - {"", *budgets.names})
    if unknown:
        raise ConfigError(f"fleet.devices: no budget class is called {unknown[0]!r}; there are "
                          f"{', '.join(budgets.names)}")  # fmt: skip
    lacking = [name for name in budgets.names if name not in named and "" not in named]
    if lacking:
        raise ConfigError(f"fleet.devices: clients of class {lacking[0]!r} have no device; name one, or give one "
                          f"without `budget` for all the others")  # fmt: skip
    devices = [named.get(name, named.get("", Device())) for name in budgets.names]

    def each(values: list[float]) -> Floats:
        return np.array(values, dtype=np.float64)[budgets.class_of]

    slower = factors(world(config.seed, Stream.SPREAD), len(budgets.class_of), config.fleet.spread)
    return Fleet(
        seed=config.seed,
        forward=each([device.forward for device in devices]) / slower[:, 0],
        backward=each([device.backward or device.forward for device in devices]) / slower[:, 0],
        up=each([device.up or np.inf for device in devices]) / slower[:, 1],
        down=each([device.down or np.inf for device in devices]) / slower[:, 1],
        bus=each([device.bus or np.inf for device in devices]) / slower[:, 0],
        latency=each([device.latency for device in devices]),
        jitter=config.fleet.jitter,
        pace=each([8 * device.forward / (device.bus or np.inf) for device in devices]),
    )


def close_round(arrivals: Floats, wanted: int, deadline: float) -> tuple[NDArray[np.bool_], float]:
    """Who is in time [C], and how long the round lasts.

    `arrivals` [C] are the chosen clients' virtual seconds, infinity for those who never report. The first `wanted` by
    time (ties: by client) that come before the deadline (0: none) count. The round ends with the last that it waits
    for: the `wanted`-th, or the deadline where fewer came; without a deadline, the last that comes at all (the server
    sees at once that a client is gone).
    """
    limit = deadline or np.inf
    coming = np.isfinite(arrivals) & (arrivals <= limit)
    order = np.argsort(arrivals, kind="stable")
    in_time = np.zeros(len(arrivals), dtype=np.bool_)
    in_time[order[coming[order]][:wanted]] = True
    if len(arrivals) and in_time.sum() < wanted and np.isfinite(limit):
        return in_time, limit
    return in_time, float(arrivals[in_time].max(initial=0.0))
