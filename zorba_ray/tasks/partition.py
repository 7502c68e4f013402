"""Dealing the training data out to clients: index arrays, disjoint, covering all examples, none of them empty."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.schema import ClientsConfig
from zorba_ray.noise import Domain, generator

Shard = NDArray[np.int64]


def partition(
    labels: NDArray[np.int64], groups: NDArray[np.int64] | None, clients: ClientsConfig, seed: int
) -> list[Shard]:
    """One ascending index array per client."""
    count = clients.count
    refuse_too_many(count, len(labels))
    rng = generator(seed, Domain.PARTITION)
    if clients.partition == "iid":
        shards = np.array_split(rng.permutation(len(labels)), count)
    elif clients.partition == "natural":
        refuse_ungrouped(groups is not None)
        assert groups is not None
        shards = deal_groups(groups, count, rng)
    elif clients.partition == "quantity":
        shares = np.cumsum(rng.dirichlet(np.full(count, clients.alpha)))
        shards = np.split(rng.permutation(len(labels)), cuts(shares, len(labels)))
        level(shards, least_examples(len(labels), count, clients.batch))
    elif clients.partition == "classes":
        shards = deal_classes(labels, count, clients.pieces, rng)
    elif clients.partition == "sorted":
        shards = deal_pieces(labels, count, clients.pieces, rng)
    else:
        shards = deal_labels(labels, count, clients.alpha, rng)
        level(shards, least_examples(len(labels), count, clients.batch))
    return [np.sort(shard) for shard in shards]


def refuse_ungrouped(grouped: bool) -> None:
    if not grouped:
        raise ConfigError(
            "clients.partition is natural, but no column of this task's data names the client: set "
            "clients.partition_column (the embedded task has none), or clients.partition=dirichlet or iid"
        )


def refuse_too_many(clients: int, examples: int) -> None:
    if clients > examples:
        raise ConfigError(
            f"clients.count is {clients}, but there are only {examples} training examples; "
            f"take at most {examples} clients or more data"
        )


def deal_labels(labels: NDArray[np.int64], count: int, alpha: float, rng: np.random.Generator) -> list[Shard]:
    """Each label's examples go to the clients in proportions drawn from a symmetric Dirichlet(α)."""
    parts: list[list[Shard]] = [[] for _ in range(count)]
    for label in np.unique(labels):
        index = rng.permutation(np.flatnonzero(labels == label))
        shares = np.cumsum(rng.dirichlet(np.full(count, alpha)))
        for part, chosen in zip(parts, np.split(index, cuts(shares, len(index))), strict=True):
            part.append(chosen)
    return [rng.permutation(np.concatenate(part)) for part in parts]


def cuts(shares: NDArray[np.float64], examples: int) -> NDArray[np.int64]:
    """Where to cut so many examples, from the running sums of the clients' shares."""
    return np.asarray(np.rint(shares[:-1] / shares[-1] * examples), dtype=np.int64)


def deal_classes(labels: NDArray[np.int64], count: int, each: int, rng: np.random.Generator) -> list[Shard]:
    """Every client has so many labels, in turn from a ring of all of them, and an even part of each."""
    present = rng.permutation(np.unique(labels))
    if each > len(present):
        raise ConfigError(f"clients.pieces is {each}, but the training data has {len(present)} labels")
    if count * each < len(present):
        raise ConfigError(
            f"clients.count={count} with clients.pieces={each} leaves some of the {len(present)} labels to nobody; "
            f"take at least {-(-len(present) // each)} clients or more labels a client"
        )
    places = np.arange(count * each) % len(present)  # of the ring, client by client
    owners = rng.permutation(count)
    parts: list[list[Shard]] = [[] for _ in range(count)]
    for place, label in enumerate(present):
        index = rng.permutation(np.flatnonzero(labels == label))
        takers = owners[np.flatnonzero(places == place) // each]
        if len(index) < len(takers):
            raise ConfigError(
                f"clients.partition is classes, and {len(takers)} clients want the {len(index)} examples of one label; "
                f"take fewer clients or smaller clients.pieces"
            )
        for taker, chosen in zip(takers, np.array_split(index, len(takers)), strict=True):
            parts[taker].append(chosen)
    return [np.concatenate(part) for part in parts]


def deal_pieces(labels: NDArray[np.int64], count: int, each: int, rng: np.random.Generator) -> list[Shard]:
    """The data sorted by label, in equal pieces, so many of them to every client."""
    if count * each > len(labels):
        raise ConfigError(
            f"clients.count={count} with clients.pieces={each} wants more pieces than the {len(labels)} training "
            f"examples; take fewer"
        )
    index = rng.permutation(len(labels))
    pieces = np.array_split(index[np.argsort(labels[index], kind="stable")], count * each)
    hands = rng.permutation(count * each).reshape(count, each)
    return [np.concatenate([pieces[i] for i in hand]) for hand in hands]


def least_examples(examples: int, clients: int, batch: int) -> int:
    """What every client gets at least: a batch, or half the average shard where that is less."""
    return max(1, min(batch, examples // (2 * clients)))


def level(shards: list[Shard], least: int) -> None:
    """Raise every shard to `least` examples in place, one example at a time from whoever has most."""
    rich = [(-len(shard), n) for n, shard in enumerate(shards)]
    heapq.heapify(rich)
    for n in range(len(shards)):
        while len(shards[n]) < least:
            size, giver = heapq.heappop(rich)
            if -size != len(shards[giver]):  # it has changed since: put it back as it is
                heapq.heappush(rich, (-len(shards[giver]), giver))
                continue
            shards[n] = np.append(shards[n], shards[giver][-1])
            shards[giver] = shards[giver][:-1]
            heapq.heappush(rich, (-len(shards[giver]), giver))


def deal_groups(groups: NDArray[np.int64], count: int, rng: np.random.Generator) -> list[Shard]:
    """Groups stay together where there are enough: largest first, each to the client that has least.

    With fewer groups than clients, a group's examples are shared evenly by clients of its own, more for a larger group.
    """
    _, starts = np.unique(np.sort(groups), return_index=True)
    members = np.split(np.argsort(groups, kind="stable"), starts[1:])
    members.sort(key=lambda index: (-len(index), int(index[0])))
    if len(members) < count:
        owners = [1] * len(members)
        largest = [(-float(len(index)), g) for g, index in enumerate(members)]
        heapq.heapify(largest)
        for _ in range(count - len(members)):  # the next client goes where shards are largest
            g = largest[0][1]
            owners[g] += 1
            heapq.heapreplace(largest, (-len(members[g]) / owners[g], g))
        return [
            shard
            for index, n in zip(members, owners, strict=True)
            for shard in np.array_split(rng.permutation(index), n)
        ]
    load = [(0, n) for n in range(count)]
    dealt: list[list[Shard]] = [[] for _ in range(count)]
    for index in members:
        size, n = heapq.heappop(load)
        dealt[n].append(index)
        heapq.heappush(load, (size + len(index), n))
    return [np.concatenate(part) for part in dealt]
