"""A plain loop, one client after the other. `--way once`: each round moves the model once for all clients, which is
what a careful reader of the method writes, and what only works while all clients share directions and blocks."""

from __future__ import annotations

from workload import MU, Model, arguments, batches, round_done

given = arguments()
model, clients = Model(given.folder), batches(given.folder)
for round in range(given.rounds):
    if given.way == "once":
        model.move(round, MU)
        above = [model.loss(*batch) for batch in clients]
        model.move(round, -2 * MU)
        below = [model.loss(*batch) for batch in clients]
        model.move(round, MU)
        scalars = [(a - b) / (2 * MU) for a, b in zip(above, below, strict=True)]
    else:
        scalars = [model.scalar(*batch, round) for batch in clients]
    model.step(round, sum(scalars) / len(scalars))
    round_done(round, scalars)
