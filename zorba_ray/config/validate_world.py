"""What a config may say of the simulated world: who takes part with what budget, the clock, misbehaviour, privacy."""

from __future__ import annotations

import math
from statistics import NormalDist

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.require import at_least, check_size, positive, require
from zorba_ray.config.schema import BudgetsConfig, Config
from zorba_ray.config.units import parse_bytes, parse_clients

MOST_LEVELS = 10_000  # of budgets


def check_world(config: Config) -> None:
    """Who takes part, the virtual clock, misbehaviour, privacy; and what of it the method can bear."""
    participation, fleet, faults = config.participation, config.fleet, config.faults
    try:
        parse_clients(participation.clients, config.clients.count)
    except ConfigError as error:
        raise ConfigError(f"participation.clients: {error}") from None
    require(0 < participation.available <= 1, "participation.available", participation.available,
            "a probability above 0")
    require(0 <= participation.dropout < 1, "participation.dropout", participation.dropout, "a probability below 1")
    at_least(1, participation__up=participation.up, participation__down=participation.down)
    at_least(0, participation__over=participation.over, participation__deadline=participation.deadline)
    traced = participation.availability == "trace"
    require(bool(participation.trace) or not traced, "participation.trace", "",
            "a .jsonl or .csv file, because participation.availability is trace")
    clocked = {
        "participation.deadline": participation.deadline > 0,
        "participation.over": participation.over > 0,
        "participation.trace_unit=seconds": traced and participation.trace_unit == "seconds",
    }
    for name in [name for name, used in clocked.items() if used and not fleet.devices]:
        raise ConfigError(f"{name} goes by the virtual clock, and fleet.devices is empty: say how fast clients are, "
                          f"such as fleet.devices='[{{forward: 1e12, up: 1e7, down: 5e7}}]'")
    require(participation.choice != "poisson" or participation.over == 0, "participation.over", participation.over,
            "0 where participation.choice is poisson: nobody knows how many come")
    names = [device.budget for device in fleet.devices]
    require(len(set(names)) == len(names), "fleet.devices", names, "one for each budget class, and one for all others")
    for i, device in enumerate(fleet.devices):
        positive(**{f"fleet.devices.{i}.forward": device.forward})
        at_least(0, **{f"fleet.devices.{i}.{name}": getattr(device, name)
                       for name in ("backward", "up", "down", "bus", "latency")})
    at_least(0, fleet__spread=fleet.spread, fleet__jitter=fleet.jitter)
    require(1 <= faults.min_clients <= config.clients.count, "faults.min_clients", faults.min_clients,
            f"from 1 to clients.count, which is {config.clients.count}")
    at_least(0, faults__outlier=faults.outlier)
    require(0 <= faults.byzantine <= 1, "faults.byzantine", faults.byzantine, "a share of the clients, from 0 to 1")
    check_shared_world(config)


def check_shared_world(config: Config) -> None:
    """Robust averages and privacy, whatever the method; what a method can bear of them is `methods.fit`'s."""
    step, privacy = config.step, config.privacy
    require(0 <= step.trim < 0.5, "step.trim", step.trim, "a share from 0 to less than a half: it is cut at both ends")
    check_weights(config)
    positive(step__clip_norm=step.clip_norm, privacy__clip=privacy.clip)
    at_least(0, privacy__noise=privacy.noise)
    require(0 < privacy.delta < 1, "privacy.delta", privacy.delta, "a probability between 0 and 1")
    if privacy.noise > 0:
        if step.weights != "equal":
            raise ConfigError("privacy.noise needs step.weights=equal: the privacy of a client is accounted for equal "
                              "weights")
        if step.aggregate != "mean":
            raise ConfigError(f"privacy.noise does not work with step.aggregate={step.aggregate}: noise is added on "
                              f"sums; privacy.clip already bounds every client")
        if config.allocation.statistics == "estimated":
            raise ConfigError("privacy.noise does not work with allocation.statistics=estimated: the probes' scalars "
                              "would be used without noise")
        if config.faults.outlier > 0:
            raise ConfigError("privacy.noise does not work with faults.outlier: whom it excludes depends on the data "
                              "of others")


def check_weights(config: Config) -> None:
    """Numbers of samples count once, and a step is divided by an expected weight only where one is known."""
    participation, step = config.participation, config.step
    drawn = parse_clients(participation.clients, config.clients.count) < config.clients.count
    if drawn and participation.choice == "samples" and step.weights == "samples":
        raise ConfigError("participation.choice=samples and step.weights=samples count the numbers of samples twice: "
                          "set step.weights=equal, or participation.choice=uniform")
    if step.normalise != "expected":
        return
    unknown = {
        f"step.aggregate={step.aggregate}": step.aggregate != "mean",
        "privacy.noise": config.privacy.noise > 0,  # which divides by an expected number already
        "participation.choice=samples": participation.choice == "samples",
        "participation.availability=trace": participation.availability == "trace",
        "participation.deadline": participation.deadline > 0,
        "participation.over": participation.over > 0,
        "participation.late=keep": participation.late == "keep",
    }
    for name in [name for name, used in unknown.items() if used]:
        raise ConfigError(f"step.normalise=expected does not work with {name}: it divides a mean of scalars of shared "
                          f"directions by a weight that is known beforehand")


def check_budgets(budgets: BudgetsConfig, clients: int) -> None:
    here = "clients.budgets"
    given = [name for name in ("classes", "explicit", "median") if getattr(budgets, name)]
    if len(given) != 1:
        what = f"says both {' and '.join(given)}" if given else "says nothing"
        drop = "".join(f"; drop {name} with {here}.{name}={'' if name == 'median' else '[]'}" for name in given[:-1])
        raise ConfigError(f"{here} {what}; it takes one of classes, explicit and median{drop}")
    for i, each in enumerate(budgets.classes):
        positive(**{f"{here}.classes.{i}.share": each.share})
        require(bool(each.budget), f"{here}.classes.{i}.budget", "",
                "the VRAM of one client of this class, such as 24 GiB")
        check_size(each.budget, f"{here}.classes.{i}.budget")
        require(bool(each.name), f"{here}.classes.{i}.name", each.name, "a name")
    names = [each.name for each in budgets.classes]
    repeated = next((name for name in names if names.count(name) > 1), None)
    require(repeated is None, f"{here}.classes", repeated, "named once: two classes have that name")
    require(len(budgets.explicit) in (0, clients), f"{here}.explicit", f"{len(budgets.explicit)} budgets",
            f"one budget for each of the {clients} clients, or set clients.count={len(budgets.explicit)}")
    for i, size in enumerate(budgets.explicit):
        check_size(size, f"{here}.explicit.{i}")
    if budgets.median:
        check_size(budgets.median, f"{here}.median")
    check_size(budgets.context, f"{here}.context", least=0)
    positive(**{f"{here}.sigma": budgets.sigma})
    require(1 <= budgets.levels <= MOST_LEVELS, f"{here}.levels", budgets.levels, f"from 1 to {MOST_LEVELS}")
    if budgets.median:
        check_spread(budgets)


def check_spread(budgets: BudgetsConfig) -> None:
    """The levels of the distribution are sizes: from a byte up to what an integer of 64 bits holds."""
    middle = math.log(parse_bytes(budgets.median))
    reach = NormalDist().inv_cdf(1 - 0.5 / budgets.levels)  # of the outermost levels, in deviations
    most = min(middle, math.log(2**62) - middle) / reach if reach > 0 else math.inf
    require(budgets.sigma <= most, "clients.budgets.sigma", budgets.sigma,
            f"at most {most:.3g}, or the {budgets.levels} levels around {budgets.median} are no sizes of memory")
