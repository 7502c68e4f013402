"""Speed and memory of the numerical core, beside the forwards alone and beside a textbook loop, in one run.

    python analysis/bench_core.py --cores 1 2 --json core.json

OPT-125M shape with random weights, 16 clients of 8 × 64 tokens, P = 4, two-sided. The rivals of a row run in turn,
`--repeats` times; a row is the median over the repeats. A full run takes about half an hour with one core and wants a
quiet machine; `--quick` runs 2 clients once, says so, and is no measurement. With a GPU, `--gpu` prints the same for
OPT-1.3B in bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from torch import nn

from zorba_ray.config.schema import ModelConfig
from zorba_ray.engine import CLEAN, Version
from zorba_ray.engine import Path as VersionPath
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.model import BlockModel, HeadSpec, ModelSpec, from_module
from zorba_ray.model.batch import Batch
from zorba_ray.noise import Direction, Kind, combine

MU = 1e-3
WORDS = (100, 200)
HIDDEN_MEMORY = 2 << 30
DIRECTIONS = 4
THEORY_SPLIT = 8 / (0.75 + 8 * 0.25)  # m / (α + m (1 − α)), α = ¾, m = 8

# key: (what is measured, "least" or "most", bar)
BARS: dict[str, tuple[str, str, float]] = {
    "noise_gaussian": ("perturbing 10⁷ float32 (Gaussian), times faster than torch.normal + add_", "least", 2.5),
    "noise_rademacher": ("the same with Rademacher noise", "least", 6.0),
    "overhead": ("(a) round / the same forwards alone", "most", 1.10),
    "half_active": ("(b) round with the last half of the blocks active / (a)", "most", 0.60),
    "split_speedup": (f"(c) split perturbation, times faster than unsplit (theory {THEORY_SPLIT:.2f})", "least",
                      round(0.9 * 2.9, 2)),
    "bf16_speedup": ("(d) bfloat16 evaluation, times faster than (a)", "least", 3.0),
    "textbook_fp32": ("(e) textbook loop / (a)", "least", 2.3),
    "textbook_bf16": ("(e) textbook loop / (d)", "least", 9.0),
    "small_textbook_fp32": ("(e) at 4 × 32 tokens, / (a)", "least", 5.0),
    "small_textbook_bf16": ("(e) at 4 × 32 tokens, / (d)", "least", 15.0),
    "peak_ratio": ("(f) peak above the model / (scratch + live states + one block's workspace)", "most", 1.10),
}


@dataclass
class Setting:
    """What is run: shape of the model and of the work, and where."""

    config: tf.OPTConfig
    clients: int
    repeats: int
    device: str


def opt_125m() -> tf.OPTConfig:
    return tf.OPTConfig()


def opt_1_3b() -> tf.OPTConfig:
    return tf.OPTConfig(hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32,
                        word_embed_proj_dim=2048)


def plain_opt(setting: Setting) -> Any:
    torch.manual_seed(0)
    with torch.device(setting.device):
        module = tf.AutoModelForCausalLM.from_config(setting.config, attn_implementation="sdpa", dtype=torch.float32)
    module.config.use_cache = False
    return module.eval().requires_grad_(False)


def blocked(module: nn.Module, precision: str, device: str) -> BlockModel:
    keys, head = ModelConfig(precision=precision), HeadSpec("words", WORDS)
    spec = ModelSpec("AutoModelForCausalLM", {}, "sdpa", "", keys, head, 0)
    return from_module(module, spec, device)


def client_batches(count: int, rows: int, length: int) -> list[Batch]:
    """Full rows of random tokens, the answer at the last."""
    batches = []
    for n in range(count):
        ids = torch.randint(3, 50_000, (rows, length), generator=torch.Generator().manual_seed(n))
        last = torch.full((rows,), length - 1)
        batches.append(Batch(ids, torch.ones_like(ids), torch.arange(rows), last, torch.arange(rows) % 2))
    return batches


def version(p: int, sign: int) -> Version:
    return ((Direction(0, 0, p), sign * MU),)


def active_paths(layers: int, first_active: int, directions: int = DIRECTIONS) -> tuple[VersionPath, ...]:
    return tuple(
        tuple(CLEAN if index < first_active else version(p, sign) for index in range(layers))
        for p in range(directions)
        for sign in (1, -1)
    )


def split_paths(layers: int, forks: int = 8) -> tuple[VersionPath, ...]:
    """One pair of first parts (three quarters of the blocks), each forked into `forks` second parts."""
    cut = layers * 3 // 4
    return tuple(
        tuple(version(0, sign) if index < cut else version(1 + j, sign) for index in range(layers))
        for sign in (1, -1)
        for j in range(forks)
    )


def walk_round(model: BlockModel, batches: list[Batch], paths: tuple[VersionPath, ...]) -> None:
    evaluate(model, [Work(batch, paths) for batch in batches], "gaussian", HIDDEN_MEMORY)


def forwards_alone(module: Any, batches: list[Batch], count: int) -> None:
    """The round's forwards on unmodified weights, logits of the label words at the answer positions."""
    with torch.no_grad():
        for batch in batches:
            ids, mask = batch.ids.to(module.device), batch.mask.to(module.device)
            for _ in range(count):
                hidden = module.model(input_ids=ids, attention_mask=mask).last_hidden_state
                nn.functional.linear(hidden[batch.rows, batch.cols], module.lm_head.weight[list(WORDS)])


def textbook_round(module: Any, batches: list[Batch]) -> None:
    """Perturb +ε, −2ε, +ε in place with `torch.normal` per tensor, full logits, client after client; then update."""
    parameters = list(module.model.decoder.layers.parameters())
    generator = torch.Generator(device=module.device)

    def move(seed: int, scale: float) -> None:
        generator.manual_seed(seed)
        for parameter in parameters:
            z = torch.normal(0.0, 1.0, parameter.shape, generator=generator, device=parameter.device)
            parameter.data.add_(z, alpha=scale)

    def loss(batch: Batch) -> float:
        logits = module(input_ids=batch.ids.to(module.device), attention_mask=batch.mask.to(module.device)).logits
        targets = torch.tensor(WORDS, device=module.device)[batch.targets]
        return float(nn.functional.cross_entropy(logits[batch.rows, batch.cols].float(), targets))

    with torch.no_grad():
        for n, batch in enumerate(batches):
            for p in range(DIRECTIONS):
                seed = 1000 * n + p
                move(seed, MU)
                plus = loss(batch)
                move(seed, -2 * MU)
                minus = loss(batch)
                move(seed, MU)
                move(seed, -1e-6 * (plus - minus) / (2 * MU) / DIRECTIONS)


clock: Callable[[], float] = time.perf_counter


def timed(run: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def noise_times(kind: Kind, device: str, count: int = 10_000_000) -> tuple[float, float]:
    """Seconds of (fused perturbation, torch.normal and add_) on `count` float32 numbers."""
    base, out = torch.ones(count, device=device), torch.ones(count, device=device)  # touched: no page faults later
    generator = torch.Generator(device=device).manual_seed(0)
    terms = ((Direction(0, 0, 0), MU),)

    def rival() -> None:
        out.add_(torch.normal(0.0, 1.0, base.shape, generator=generator, device=device), alpha=MU)

    ours = timed(lambda: combine(out, base, terms, 1, kind), device)
    return ours, timed(rival, device)


def noise_rows(device: str, pairs: int) -> dict[str, float]:
    """How many times faster than torch.normal + add_, medians over pairs of runs."""
    kinds: tuple[Kind, ...] = ("gaussian", "rademacher")
    times = {kind: [noise_times(kind, device) for _ in range(pairs)] for kind in kinds}
    return {f"noise_{kind}": statistics.median(rival / ours for ours, rival in times[kind]) for kind in kinds}


def peak_ratio(setting: Setting, model: BlockModel, batch: Batch) -> float:
    """Bytes that one client's round takes above the model, over what it must take."""
    layers = len(model.blocks)
    paths = active_paths(layers, 0)
    with torch.no_grad():
        hidden, context = model.stem(batch.to(model.device))
        workspace = peak_bytes(partial(model.layer, 0, hidden, context), setting.device)
        state = hidden.numel() * hidden.element_size()
    scratch = max(model.get_scratch(block).bytes for block in model.blocks)
    del hidden, context
    model.scratch = None
    measured = peak_bytes(lambda: walk_round(model, [batch], paths), setting.device)
    allowed = scratch + len(paths) * state + workspace
    print(f"  memory: peak {measured / 2**20:.1f} MiB; scratch {scratch / 2**20:.1f} + {len(paths)} states of "
          f"{state / 2**20:.2f} + workspace {workspace / 2**20:.1f} MiB")
    return measured / allowed


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """Most bytes that PyTorch's allocator held during a call above what it held before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        kept = run()
    del kept
    events = sorted(
        (event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"),  # type: ignore[union-attr]
        key=lambda event: event.start_ns(),
    )
    held = highest = 0
    for event in events:
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def measure(setting: Setting) -> dict[str, float]:
    """All rows at the present number of threads."""
    layers = setting.config.num_hidden_layers
    exact_module = plain_opt(setting)
    alone, textbook = copy.deepcopy(exact_module), copy.deepcopy(exact_module)
    low = blocked(copy.deepcopy(exact_module), "bfloat16", setting.device)
    exact = blocked(exact_module, "float32", setting.device)
    usual, small = client_batches(setting.clients, 8, 64), client_batches(setting.clients, 4, 32)
    two = min(2, setting.clients)
    scale = setting.clients / two  # the textbook loop runs two clients and is scaled
    paths = active_paths(layers, 0)
    unsplit = active_paths(layers, 0, directions=8)
    rivals: dict[str, Callable[[], None]] = {
        "forwards": lambda: forwards_alone(alone, usual, len(paths)),
        "a": lambda: walk_round(exact, usual, paths),
        "b": lambda: walk_round(exact, usual, active_paths(layers, layers // 2)),
        "c": lambda: walk_round(exact, usual, split_paths(layers)),
        "unsplit": lambda: walk_round(exact, usual, unsplit),
        "d": lambda: walk_round(low, usual, paths),
        "textbook": lambda: textbook_round(textbook, usual[:two]),
        "small a": lambda: walk_round(exact, small, paths),
        "small d": lambda: walk_round(low, small, paths),
        "small textbook": lambda: textbook_round(textbook, small[:two]),
    }
    for model in (exact, low):  # compile the kernels, touch the memory
        walk_round(model, small[:1], paths[:2])
    forwards_alone(alone, small[:1], 1)
    noise_times("gaussian", setting.device)
    noise_times("rademacher", setting.device)

    rows: dict[str, list[float]] = {key: [] for key in BARS}
    for repeat in range(setting.repeats):
        seconds = {}
        for name, run in rivals.items():
            seconds[name] = timed(run, setting.device) * (scale if "textbook" in name else 1)
            print(f"  repeat {repeat + 1}, {name}: {seconds[name]:.2f} s", file=sys.stderr, flush=True)
        rows["overhead"].append(seconds["a"] / seconds["forwards"])
        rows["half_active"].append(seconds["b"] / seconds["a"])
        rows["split_speedup"].append(seconds["unsplit"] / seconds["c"])
        rows["bf16_speedup"].append(seconds["a"] / seconds["d"])
        rows["textbook_fp32"].append(seconds["textbook"] / seconds["a"])
        rows["textbook_bf16"].append(seconds["textbook"] / seconds["d"])
        rows["small_textbook_fp32"].append(seconds["small textbook"] / seconds["small a"])
        rows["small_textbook_bf16"].append(seconds["small textbook"] / seconds["small d"])
        for key, value in noise_rows(setting.device, 5).items():
            rows[key].append(value)
    rows["peak_ratio"].append(peak_ratio(setting, exact, usual[0]))
    return {key: statistics.median(values) for key, values in rows.items()}


def noise_bandwidth(count: int = 200_000_000) -> dict[str, float]:
    """On a GPU: bytes read and written by the noise kernels per second, as a share of a plain copy's."""
    base = torch.zeros(count, device="cuda")
    shares = {}
    for kind in ("gaussian", "rademacher"):
        for dtype, width in ((torch.float32, 4), (torch.bfloat16, 2)):
            out = torch.empty(count, device="cuda", dtype=dtype)
            target = torch.empty_like(base)
            terms = ((Direction(0, 0, 0), MU),)
            for run in (lambda: combine(out, base, terms, 1, kind), lambda: target.copy_(base)):  # noqa: B023
                timed(run, "cuda")
            kernel = statistics.median(
                timed(lambda: combine(out, base, terms, 1, kind), "cuda") for _ in range(20)  # noqa: B023
            )
            copying = statistics.median(timed(lambda: target.copy_(base), "cuda") for _ in range(20))  # noqa: B023
            shares[f"bandwidth_{kind}_{str(dtype).removeprefix('torch.')}"] = ((4 + width) / kernel) / (8 / copying)
    return shares


def print_table(title: str, values: dict[str, float]) -> None:
    print(f"\n{title}")
    for key, (meaning, sense, bar) in BARS.items():
        if key not in values:
            continue
        met = values[key] >= bar if sense == "least" else values[key] <= bar
        sign = "≥" if sense == "least" else "≤"
        print(f"  {key:<20} {values[key]:8.3f}   bar {sign} {bar:<5g} {'met' if met else 'MISSED':<7} {meaning}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="numbers of threads to measure at")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the values here; the first of --cores has the plain keys")
    parser.add_argument("--quick", action="store_true", help="2 clients, once: does it run? The bars mean 16")
    parser.add_argument("--gpu", action="store_true", help="OPT-1.3B in bfloat16 on CUDA, and the noise's bandwidth")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU seconds: for one core of a busy machine")
    parser.add_argument("--noise", action="store_true", help="only the two rows of noise, a minute's work")
    options = parser.parse_args()
    if options.cpu_time:
        if options.gpu or options.cores != [1]:
            parser.error("--cpu-time says nothing about a GPU or several cores: use --cores 1")
        global clock
        clock = time.process_time
        print("CPU seconds, not time on the clock")
    if options.quick:
        options.clients, options.repeats = 2, 1
        print("QUICK: 2 clients, once. Noise is shared by 2 instead of 16 clients, so the bars do not apply.")
    values: dict[str, float] = {}
    if options.gpu:
        if not torch.cuda.is_available():
            raise SystemExit("--gpu needs CUDA, which is not available here")
        values = measure(Setting(opt_1_3b(), options.clients, options.repeats, "cuda"))
        print_table(f"OPT-1.3B on {torch.cuda.get_device_name()}, {options.clients} clients", values)
        shares = noise_bandwidth()
        for key, share in shares.items():
            print(f"  {key:<30} {share:8.3f}   aim ≥ 0.7 of the measured copy bandwidth")
        values |= shares
    else:
        for number, cores in enumerate(options.cores):
            torch.set_num_threads(cores)
            if options.noise:
                measured = noise_rows("cpu", 15)
            else:
                measured = measure(Setting(opt_125m(), options.clients, options.repeats, "cpu"))
            print_table(f"OPT-125M, {options.clients} clients, {cores} core(s), torch {torch.__version__}", measured)
            values |= {key if number == 0 else f"{key}_cores{cores}": value for key, value in measured.items()}
    if options.json:
        options.json.write_text(json.dumps({key: round(value, 4) for key, value in values.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
