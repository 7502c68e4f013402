"""Why an instance has no plan, and the least change that gives it one."""

from __future__ import annotations

import numpy as np

from zorba_ray.allocation.activation import add_activation
from zorba_ray.allocation.instance import Instance
from zorba_ray.allocation.solver import Linear, Program, weighted
from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import format_bytes


def check(instance: Instance) -> None:
    """Refuse what can be seen without solving: a client too small for the model, a block too large for its coverage."""
    vram = instance.vram
    for k, members in enumerate(instance.members):
        if len(members) and instance.class_budgets[k] < vram.least:
            small = exactly(instance.class_budgets[k])
            raise ConfigError(
                f"budget {small} of class {instance.class_names[k]!r} ({len(members)} clients) does not hold the model "
                f"even without an active block: raise it to {exactly(vram.least)} (to tune a block, to "
                f"{exactly(vram.alone().min())}), or make it smaller "
                "(model.frozen=offload, smaller batch, lower precision)"
            )
    for block, need in enumerate(vram.alone()):
        fits, wanted = int((instance.budgets >= need).sum()), int(instance.coverage[block])
        if wanted > instance.clients:
            raise ConfigError(
                f"{instance.name(block)} is to be tuned by {wanted} clients, and there are {instance.clients}: "
                f"lower its coverage to {instance.clients}, or add clients"
            )
        if fits < wanted:
            below = np.sort(instance.budgets[instance.budgets < need])[::-1][: wanted - fits]
            nearest = int(instance.class_of[instance.budgets == below[-1]][0])
            raise ConfigError(
                f"{instance.name(block)} needs {exactly(need)} on a client and only {fits} of {instance.clients} "
                f"have it, where {wanted} must tune it: raise the budget of {wanted - fits} more (class "
                f"{instance.class_names[nearest]!r} has {exactly(below[-1])}) to {exactly(need)}, "
                f"or lower its coverage to {fits}"
            )


def exactly(size: float) -> str:
    """A size for people; rounded up, so that a budget of that size does."""
    return f"{format_bytes(size)} ({int(np.ceil(size))} B)"


def explain(instance: Instance) -> str:
    """The blocks fit one by one but not together: the least memory, or the least coverage given up, that helps."""
    memory, lacking = elastic(instance, memory=True), elastic(instance, memory=False)
    wanted = int(instance.coverage.sum())
    text = f"the budgets do not hold {wanted} client × block pairs, which the coverage asks for: "
    changes = []
    if memory:
        name, size = max(memory.items(), key=lambda item: item[1])
        also = f" (and of {len(memory) - 1} more)" if len(memory) > 1 else ""
        changes.append(f"raise the budgets of {name}{also} by {exactly(size)} in all, the least that can do")
    if lacking:
        cuts = ", ".join(f"{name} by {round(size)}" for name, size in list(lacking.items())[:4])
        changes.append(f"lower the coverage of {cuts}{' …' * (len(lacking) > 4)}")
    return text + ("; or ".join(changes) or "lower the coverage, or raise the budgets")


def elastic(instance: Instance, memory: bool) -> dict[str, float]:
    """Least total of extra bytes by class (or client), or of coverage given up by block; empty when none is needed by
    the program's lights, which for classes of unlike blocks are a little weak."""
    single = instance.clients * instance.blocks <= 1000
    filled = [k for k, members in enumerate(instance.members) if len(members)]
    unit_of = np.arange(instance.clients) if single else np.searchsorted(filled, instance.class_of)
    program, total = Program(), Linear()
    slack: dict[str, Linear] = {}
    scale = float(instance.vram.of(np.ones(instance.blocks, dtype=bool)))
    units = int(unit_of.max()) + 1
    extra = [program.variable(0, np.inf) for _ in range(units)] if memory else []
    less = [] if memory else [program.variable(0, float(c), integer=True) for c in instance.coverage]
    granted = [weighted((scale, each)) for each in extra]
    add_activation(program, instance, unit_of, False, granted if memory else None, None if memory else less)
    if memory:
        for u, each in enumerate(extra):
            n = int(np.flatnonzero(unit_of == u)[0])
            name = f"class {instance.class_names[instance.class_of[n]]!r}"
            slack[f"client {n} ({name})" if single else name] = each
            total.add(each)
    else:
        for block, each in enumerate(less):
            slack[instance.name(block)] = each
            total.add(each)
    solved = program.solve(total, 10.0, 1e-6)
    if solved.x is None:
        return {}
    unit = scale if memory else 1.0
    sizes = {name: unit * each.at(solved.x) for name, each in slack.items()}
    return {name: size for name, size in sizes.items() if size > 1e-7 * unit}
