"""What it costs to keep frozen weights offloaded or in few bits: `python analysis/bench_storage.py [--rounds N]`.

MiniLM on AG News (configs/minilm_agnews.yaml; ZORBA_RAY_SHARED names the folder of models and data), on one CPU core.
For each way, of blocks that train whole and of adapters over the weights:

  loss           before training, on 128 test texts, all matrices of the layers kept so; and the share that is right
  correlation    of clients' scalars, every second block active, with those over resident weights, directions the same
  time           CPU seconds of those probes at best, against resident; offloading is here a copy within one memory
  after training of N rounds, one block a client: test loss and accuracy

Writes analysis/results/storage.json and storage.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zorba_ray.config.schema import Config
from zorba_ray.config.words import text_table
from zorba_ray.engine import CLEAN, FROZEN
from zorba_ray.engine.evaluate import Work, evaluate
from zorba_ray.rounds.draw import plan_round
from zorba_ray.runs.config import load_config
from zorba_ray.runs.prepare import Base, build_host, read
from zorba_ray.runs.simulate import simulate
from zorba_ray.tasks.batches import make_batch

RESULTS = Path(__file__).parent / "results"
MODES = ("resident", "offload", "int8", "nf4")
TEXTS, CLIENTS, PROBES, REPEATS = 128, 4, 4, 1
KEYS = [
    f"clients.count={CLIENTS}", "clients.batch=2", "task.max_tokens=32", "zo.directions=4", "allocation.plan=one_each",
    "allocation.coverage=0", "clients.budgets.classes=[{name: all, budget: 1 GiB}]", "evaluation.examples=128",
]  # fmt: skip
RATES = {"full": "3e-4", "lora": "1e-2"}


def config_of(trainable: str, frozen: str, rounds: int) -> Config:
    more = [f"model.trainable={trainable}", f"model.frozen={frozen}", f"step.lr={RATES[trainable]}",
            f"rounds={rounds}", f"evaluation.every={rounds}"]  # fmt: skip
    return load_config("minilm_agnews", [*KEYS, *more])


def all_kept_so(base: Base) -> tuple[float, float]:
    """Loss and accuracy of the untrained model with every matrix of the layers as the config keeps frozen ones."""
    host = build_host(base, "cpu")
    path = tuple(CLEAN if block.bits is None else FROZEN for block in host.model.blocks)
    batches = [make_batch(base.task.test, np.arange(start, start + 32), base.task) for start in range(0, TEXTS, 32)]
    outcomes = evaluate(host.model, [Work(batch, (path,)) for batch in batches], base.header.noise, 1 << 28)
    losses, right = [outcome.losses[0] for outcome in outcomes], sum(int(outcome.correct[0]) for outcome in outcomes)
    return float(np.mean(losses)), right / TEXTS


def probes(base: Base, offload: bool) -> tuple[np.ndarray, float]:
    """The clients' scalars, and the CPU seconds that they took at best."""
    blocks = len(base.header.blocks)
    row = np.arange(blocks) % 2 == 1
    host = build_host(base, "cpu", offloaded=np.flatnonzero(~row).tolist() if offload else ())
    scalars, best = [], np.inf
    for repeat in range(REPEATS):
        for round in range(PROBES):
            plan = plan_round(base.config, round, range(CLIENTS))
            host.rounds = round  # scalars at the same weights, along other directions
            started = time.process_time()
            reports = host.probe(plan, range(CLIENTS), np.tile(row, (CLIENTS, 1)))
            best = min(best, time.process_time() - started)
            if repeat == 0:
                scalars += [report.scalars for report in reports]
    return np.concatenate(scalars), float(best)


def measure(trainable: str, rounds: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    reference: dict[str, Any] = {}
    for frozen in MODES:
        config = config_of(trainable, frozen, rounds)
        base, _ = read(config)
        loss, right = all_kept_so(base)
        scalars, seconds = probes(base, frozen == "offload")
        reference = reference or {"loss": loss, "scalars": scalars, "seconds": seconds}
        with tempfile.TemporaryDirectory() as place:
            summary = simulate(config, Path(place) / "run")
        rows.append({
            "trainable": trainable, "frozen": frozen, "loss": loss, "loss_difference": loss - reference["loss"],
            "accuracy": right, "correlation": float(np.corrcoef(scalars, reference["scalars"])[0, 1]),
            "scalars": len(scalars), "seconds": seconds, "times_resident": seconds / reference["seconds"],
            "trained_loss": summary.test_loss_last, "trained_accuracy": summary.accuracy_last,
            "untrained_loss": summary.test_loss_first, "untrained_accuracy": summary.accuracy_first,
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]], rounds: int) -> str:
    head = ["Trains, frozen", "Loss", "Difference", "Accuracy", "Correlation", "Time", f"Loss after {rounds}",
            "Accuracy"]  # fmt: skip
    lines = [
        [f"{row['trainable']}, {row['frozen']}", f"{row['loss']:.4f}", f"{row['loss_difference']:+.4f}",
         f"{row['accuracy']:.1%}", f"{row['correlation']:.4f}", f"{row['times_resident']:.2f}×",
         f"{row['trained_loss']:.4f}", f"{row['trained_accuracy']:.1%}"]
        for row in rows
    ]  # fmt: skip
    return text_table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--trains", nargs="+", choices=list(RATES), default=list(RATES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for trainable in asked.trains:
        rows += measure(trainable, asked.rounds)
        write(rows, asked.rounds)


def write(rows: list[dict[str, Any]], rounds: int) -> None:
    """The table, with the command that makes it."""
    text = table(rows, rounds)
    trains = " ".join(dict.fromkeys(row["trainable"] for row in rows))
    command = f"python analysis/bench_storage.py --rounds {rounds} --trains {trains}"
    (RESULTS / "storage.json").write_text(json.dumps({"command": command, "rows": rows}, indent=1), encoding="utf-8")
    (RESULTS / "storage.md").write_text(f"{__doc__.strip()}\n\n`{command}`\n\n```\n{text}\n```\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
