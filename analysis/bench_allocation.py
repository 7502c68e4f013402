"""How fast and how good the allocation is: `python analysis/bench_allocation.py [--json FILE] [--quick]`.

Three parts: 10,000 clients in 10 classes × 48 blocks with all three levels; 100 distinct budgets × 24 blocks by the
direct program; and 50 random instances on which the first level is set against the simple rules.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from zorba_ray.allocation import NAMES, Bound, Instance, Plan, VramModel, alternative, describe, make_plan
from zorba_ray.config.schema import AllocationConfig
from zorba_ray.config.words import text_table
from zorba_ray.noise import Domain, generator

EQUAL = 1e-6  # relative difference below which a simple rule counts as optimal too


def model_of(clients: int, classes: int, blocks: int, noise: float, lr: float, seed: int) -> Instance:
    """Transformer blocks of 7.088 M weights in bfloat16, streamed when frozen; budgets from one block to nearly all.
    Gradients and variances differ from block to block by a factor of two either way; `noise` scales the variances."""
    rng = generator(seed, Domain.FAULTS)
    sizes = np.full(blocks, 7.088e6)
    vram = VramModel(3e8, 4 * sizes, np.zeros(blocks), 2 * sizes, 2 * sizes)
    budgets = vram.alone().max() + np.linspace(0, 0.9, classes) * float((4 * sizes).sum())
    class_of = np.arange(clients) % classes
    return Instance(
        budgets=budgets[class_of], class_of=class_of, class_names=tuple(f"class {k}" for k in range(classes)),
        vram=vram, flops=2 * 512 * sizes, sizes=sizes, weights=np.ones(clients),
        coverage=np.full(blocks, 3), gradient=rng.lognormal(0, 0.7, blocks),
        batch_variance=noise * rng.lognormal(0, 0.7, blocks), client_variance=noise * rng.lognormal(0, 0.7, blocks),
        smoothness=np.ones(blocks), directions=5, lr=lr, passes=10, flops_before=1e9, flops_after=1e9,
    )  # fmt: skip


REGIMES = ("few clients", "many clients", "private noise", "small step", "unequal weights")


def random_instance(number: int) -> tuple[str, Instance]:
    """One of five regimes in turn; in all, unequal gradients, block costs and budgets, ζ² small or large, m_min ≤ 3."""
    rng = generator(1000 + number, Domain.FAULTS)
    regime = REGIMES[number % len(REGIMES)]
    blocks = int(rng.integers(4, 13))
    coverage = int(rng.integers(1, 4))
    if regime == "few clients":  # N < L·m_min
        clients = int(rng.integers(max(coverage, 3), max(blocks * coverage - 1, 5)))
    else:
        clients = int(rng.integers(3 * blocks, 8 * blocks))
    classes = int(rng.integers(1, 5))
    sizes = rng.integers(30, 200, blocks) * 1e4
    vram = VramModel(1e7, 4 * sizes, np.zeros(blocks), 4 * sizes, 4 * sizes)
    least, most = vram.alone().max(), float(vram.of(np.ones(blocks, dtype=bool)))
    need = coverage * float((4 * sizes).sum()) / clients * 1.4  # bytes of active blocks per client for the coverage
    levels = np.minimum(least + need + rng.uniform(0, 0.6, classes) * (most - least), most)
    class_of = rng.integers(0, classes, clients)
    return regime, Instance(
        budgets=levels[class_of], class_of=class_of, class_names=tuple(f"class {k}" for k in range(classes)),
        vram=vram, flops=1000.0 * sizes, sizes=sizes,
        weights=rng.lognormal(0, 0.5, clients) if regime == "unequal weights" else np.ones(clients),
        coverage=np.full(blocks, min(coverage, clients)), gradient=rng.lognormal(0, 1, blocks),
        batch_variance=rng.lognormal(0, 1, blocks),
        client_variance=rng.choice([0.1, 30.0]) * rng.lognormal(0, 1, blocks), smoothness=np.ones(blocks),
        directions=4, lr=float(1e-9 if regime == "small step" else 10 ** rng.uniform(-6.5, -5)), passes=8,
        shared=regime != "private noise", horizon=0.02,  # short runs: in long ones nobody gains, clients differ so
    )  # fmt: skip


def timed(instance: Instance, config: AllocationConfig) -> tuple[Plan, float]:
    started = time.perf_counter()
    plan = make_plan(instance, config, 0)
    return plan, time.perf_counter() - started


def level_rows(name: str, plan: Plan, seconds: float) -> list[list[str]]:
    return [
        [name if i == 0 else "", level.objective, level.formulation, f"{level.value:.6g}", f"{level.bound:.6g}",
         f"{100 * level.gap:.2f} %", f"{100 * level.surrogate_gap:.3g} %", level.used, f"{level.seconds:.2f}",
         f"{seconds:.2f}" if i == 0 else ""]
        for i, level in enumerate(plan.levels)
    ]  # fmt: skip


def compare(number: int) -> dict[str, object]:
    """The first level on a random instance beside the best rule that keeps budgets and coverage."""
    regime, instance = random_instance(number)
    bound = Bound(instance)
    plan, seconds = timed(instance, AllocationConfig(order=["convergence"], epsilon=[0.0], time_limit=10.0))
    simple = {name: describe(name, alternative(name, instance, 0), bound) for name in NAMES}
    feasible = {name: other.merit for name, other in simple.items() if other.feasible}
    best = max(feasible, key=lambda name: feasible[name]) if feasible else ""
    return {
        "instance": number, "regime": regime, "clients": instance.clients, "blocks": instance.blocks,
        "coverage": int(instance.coverage[0]), "merit": plan.merit, "limit": plan.limit, "rate": plan.rate,
        "best_rule": best, "best_rule_merit": feasible.get(best), "seconds": seconds,
        "ratio": feasible[best] / plan.merit if best else None,
    }  # fmt: skip


def regime_rows(found: list[dict[str, object]]) -> list[list[str]]:
    by_regime = defaultdict(list)
    for each in found:
        by_regime[each["regime"]].append(each)
    rows = []
    for regime, group in by_regime.items():
        ratios = np.array([each["ratio"] for each in group if each["ratio"] is not None], dtype=float)
        proven = np.array([each["limit"] / each["merit"] for each in group], dtype=float)
        equal = [str(each["best_rule"]) for each in group if each["best_rule"] and float(each["ratio"]) > 1 - EQUAL]
        rows.append([
            str(regime), f"{len(group)}", f"{len(group) - len(ratios)}", f"{np.median(ratios):.3f}",
            f"{ratios.min():.3f}", f"{ratios.max():.6f}",
            f"{len(equal)} {', '.join(sorted(set(equal)))}".strip(), f"{np.median(proven):.3f}",
            f"{proven.max():.3f}",
        ])  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="10 random instances instead of 50")
    options = parser.parse_args()
    import highspy  # noqa: F401  loaded before the clock starts, like NumPy

    large, large_seconds = timed(model_of(10_000, 10, 48, 1.0, 1e-6, 0), AllocationConfig())
    noisy, noisy_seconds = timed(model_of(10_000, 10, 48, 100.0, 1e-6, 0), AllocationConfig())
    config = AllocationConfig(formulation="direct", mip_gap=0.01)
    direct, direct_seconds = timed(model_of(100, 100, 24, 1.0, 1e-6, 1), config)
    rows = level_rows("10,000 × 48, 10 classes", large, large_seconds)
    rows += level_rows("the same, variances × 100", noisy, noisy_seconds)
    rows += level_rows("100 × 24, direct", direct, direct_seconds)
    head = ["Instance", "Level", "Program", "Exact f*", "Limit", "Gap", "MIP gap", "Found by", "Seconds",
            "In all"]  # fmt: skip
    print(text_table(head, rows))

    found = [compare(number) for number in range(10 if options.quick else 50)]
    print("\nFirst level, merit of the best feasible simple rule / merit of the plan (below 1: the plan is better)\n")
    head = ["Regime", "Instances", "No rule feasible", "Median", "Best", "Worst", "Rule as good", "Limit / M, median",
            "most"]  # fmt: skip
    print(text_table(head, regime_rows(found)))
    ratios = [each["ratio"] for each in found if each["ratio"] is not None]
    figures = {
        "large_seconds": large_seconds,
        "large_gap": max(level.surrogate_gap for level in large.levels),
        "large_exact_ratio": large.levels[0].value / large.levels[0].bound,
        "noisy_seconds": noisy_seconds,
        "noisy_exact_ratio": noisy.levels[0].value / noisy.levels[0].bound,
        "direct_seconds": direct_seconds,
        "direct_gap": max(level.surrogate_gap for level in direct.levels),
        "direct_exact_ratio": direct.levels[0].value / direct.levels[0].bound,
        "worst_ratio_to_best_alternative": max(ratios),
    }
    print("\n" + "\n".join(f"{name} {value:.6g}" for name, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(figures | {"instances": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
