"""A run folder made up from nothing, for tests of what reads one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from zorba_ray.allocation.plan import Level, Plan
from zorba_ray.config import load
from zorba_ray.config.load import to_yaml
from zorba_ray.ledger import Entry, LedgerWriter
from zorba_ray.messages import BlockInfo, Header, SharedStep
from zorba_ray.methods import kind_of
from zorba_ray.records.schema import ClientRecord, EvaluationRecord, RoundRecord
from zorba_ray.records.stream import FOLDER, RecordWriter, read_parts
from zorba_ray.runs.summary import environment, summarise
from zorba_ray.world.budgets import client_budgets

MakeRun = Callable[..., Path]
DIRECTIONS = 4
MIB = 2**20


def make_run(
    folder: Path,
    overrides: Sequence[str] = (),
    blocks: int = 6,
    rounds: int = 30,
    reporting: int = 20,
    solved: bool = True,
    notes: Sequence[str] = (),
    measured: int | None = None,
) -> Path:
    """A run folder that looks like a real one: all files, plausible numbers, `reporting` clients a round."""
    folder.mkdir(parents=True)
    config = load.load_config(None, [f"rounds={max(rounds, 1)}", *overrides], kind_of=kind_of)  # valid or not
    rng = np.random.default_rng(1)
    clients, budgets = config.clients.count, client_budgets(config.clients, config.seed)
    share = np.array([0.3, 0.55, 1.0])[np.minimum(budgets.class_of, 2)]
    matrix = rng.random((clients, blocks)) < share[:, None]
    matrix[np.arange(clients), rng.integers(blocks, size=clients)] = True
    need = budgets.bytes * (0.4 + 0.5 * matrix.mean(axis=1) / np.maximum(share, matrix.mean(axis=1)))
    level = Level("convergence", 2.31, 2.28, 0.013, 1.2, 0.05, 2.43, 2.4, "patterns", True, 2.28, 0.0, "program")
    total = float(need.sum())
    vram = Level("vram", total, total, 0.0, 0.2, 0.05, 1.05 * total, total, "patterns", True, total, 0.0, "search")
    plan = Plan(
        name=config.allocation.plan, matrix=matrix, levels=(level, vram) if solved else (), merit=0.42, rate=0.004,
        limit=0.44, bound=2.4, variance=2.0, bias=0.4, vram=total, worst=0.9, compute=1e9,
        slack=budgets.bytes - need, feasible=True, messages=("budgets bind for <some> clients",),
    )  # fmt: skip
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    (folder / "allocation.json").write_text(json.dumps(plan.to_json()), encoding="utf-8")
    each = {name: [0.5] * blocks for name in ("gradient", "batch_variance", "client_variance")}
    (folder / "statistics.json").write_text(json.dumps({"round": 0, "estimated": False} | each), encoding="utf-8")
    infos = tuple(BlockInfo(f"block {i}", i + 1, 49984) for i in range(blocks))
    header = Header(config.method, config.seed, config.zo.noise, "00" * 32, infos)
    ledger = LedgerWriter(folder / "ledger.jsonl", header)
    with RecordWriter(folder / FOLDER, rounds=10) as writer:
        for t in range(rounds):
            if t % 10 == 0:
                writer.add([EvaluationRecord(t, 0.53 + 0.4 * t / rounds, 0.7, 400)])
            loss = 0.75 - 0.5 * t / rounds + 0.03 * rng.normal()
            who = np.sort(rng.choice(clients, min(reporting, clients), replace=False)).tolist()
            rho = rng.normal(0, 1.5, (len(who), DIRECTIONS)).astype(np.float32)
            reports = [
                ClientRecord(
                    t, n, budgets.names[budgets.class_of[n]], int(budgets.bytes[n]), int(need[n]), int(matrix[n].sum()),
                    8, loss, row.tolist(), float(row.mean()), float(row.std()), 48, 7.68e8, 16, 96, 0.01, "ok",
                    measured_bytes=measured, allocated_bytes=measured and measured - MIB,
                )
                for n, row in zip(who, rho, strict=True)
            ]
            mean, spread = float(rho.mean()), float(rho.std())
            writer.add([RoundRecord(t, loss, 0.005, len(who), 16 * len(who), 96 * len(who), 0.4, 0.1, mean, spread)])
            writer.add(reports)
            ledger.append(Entry(SharedStep(t, 0.005, np.zeros((blocks, DIRECTIONS), np.float32)), loss))
        writer.add([EvaluationRecord(rounds, 0.93 if rounds else 0.53, 0.2, 400)])
    ledger.close()
    summary = summarise(
        config, read_parts(folder), folder / "ledger.jsonl", "cohort", "cd" * 32, 51.3, environment(1),
        interrupted=rounds < config.rounds, notes=list(notes),
    )  # fmt: skip
    summary.write(folder)
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> MakeRun:
    """Makes run folders, each in a folder of its own."""
    count = iter(range(100))
    return lambda *args, **kwargs: make_run(tmp_path / f"run {next(count)}", *args, **kwargs)
