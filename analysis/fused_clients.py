"""The workload that other simulators are compared on, beside a plain loop: `bench_runtime.py --only peers`.

A random OPT (hidden 256, 6 layers, ffn 1024, vocabulary 8,192), 100 clients with mini-batches of 8 × 23 tokens, one
direction two-sided, all layers active, one thread. Milliseconds of CPU for a client's step, in rounds of a whole run in
this process: ledger, records and driver are in them. Rivals take turns, a round each; a row is the median over turns.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from zorba_ray.engine.precision import multiplies_bfloat16
from zorba_ray.model.load import EMBEDDED
from zorba_ray.records.schema import RoundRecord
from zorba_ray.runs.config import load_config
from zorba_ray.runs.simulate import Here, begin
from zorba_ray.tasks.batches import make_batch, sample_batch

CLIENTS, FUSED, TURNS, MU = 100, (1, 8, 32), 5, 1e-3
MAKE = """
import sys, torch, transformers
torch.manual_seed(0)
transformers.OPTForCausalLM(transformers.OPTConfig(
    vocab_size=8192, hidden_size=256, word_embed_proj_dim=256, ffn_dim=1024, num_hidden_layers=6,
    num_attention_heads=4, max_position_embeddings=128)).save_pretrained(sys.argv[1])
"""
KEYS = [
    f"clients.count={CLIENTS}", "clients.batch=8", "clients.partition=iid", "zo.directions=1", f"zo.mu={MU}",
    "allocation.plan=full", "clients.budgets.classes=[{name: all, budget: 2 GiB}]", "evaluation.every=1000000",
    "evaluation.examples=8", "guard.loss_multiple=1000", "rounds=1000", "checkpoint.every=0",
    "task.prompt='what you think of it {text} it was'",
]  # fmt: skip


def plain_loop(model: Any, base: Any, lean: bool) -> Callable[[], None]:
    """A round as one writes it who needs this one experiment: parameters moved in place, one z for all clients, the
    loss over two words at the last position. Of the layers' parameters alone, as in ours. `lean`: by one who minds that
    logits of all tokens at all positions are computed for it."""
    words = torch.tensor(base.task.label_ids)
    moved = list(model.model.decoder.layers.parameters())
    at = [0]

    def loss(batch: Any) -> float:
        named = {"input_ids": batch.ids, "attention_mask": batch.mask}
        if lean:
            last = model.model(**named).last_hidden_state[batch.rows, batch.cols]
            return float(F.cross_entropy(last @ model.lm_head.weight[words].T, batch.targets))
        return float(F.cross_entropy(model(**named).logits[batch.rows, batch.cols][:, words], batch.targets))

    @torch.no_grad()
    def round() -> None:
        generator = torch.Generator().manual_seed(at[0])
        z = [torch.randn(p.shape, generator=generator) for p in moved]
        index = [sample_batch(shard, 8, 0, n, at[0]) for n, shard in enumerate(base.shards)]
        batches = [make_batch(base.task.train, each, base.task) for each in index]
        for p, way in zip(moved, z, strict=True):
            p.add_(way, alpha=MU)
        plus = [loss(batch) for batch in batches]
        for p, way in zip(moved, z, strict=True):
            p.add_(way, alpha=-2 * MU)
        minus = [loss(batch) for batch in batches]
        rho = sum((a - b) / (2 * MU) for a, b in zip(plus, minus, strict=True)) / CLIENTS
        for p, way in zip(moved, z, strict=True):
            p.add_(way, alpha=MU - 1e-4 * rho)
        at[0] += 1

    return round


@contextmanager
def run_of(folder: Path, model: Path, *keys: str) -> Iterator[tuple[Any, Callable[[], None]]]:
    """What the hosts of a run start from, and its next round."""
    simulation = begin(load_config(None, [*KEYS, f"model.path={model}", *keys]), folder, False, Here())
    events = iter(simulation.events)

    def round() -> None:
        next(event for event in events if isinstance(event, RoundRecord))

    yield simulation.session.prepared.base, round
    simulation.finish(interrupted=True)


def peers() -> dict[str, float]:
    """Per precision and number of fused clients: ms of CPU a client-step, and as a share of the plain loops'."""
    import transformers

    precisions = {"fp32": "float32"} | ({"bf16": "bfloat16"} if multiplies_bfloat16("cpu") else {})
    if "bf16" not in precisions:
        print("peer_bf16 is left out: this CPU does not multiply bfloat16", flush=True)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE, str(folder / "model")], check=True, capture_output=True)
        for file in EMBEDDED.glob("*token*"):
            shutil.copy(file, folder / "model")
        rivals: dict[str, Callable[[], None]] = {}
        for short, precision in precisions.items():
            for fuse in FUSED:
                run = run_of(folder / f"{short}-{fuse}", folder / "model", f"model.precision={precision}",
                             f"clients.fuse={fuse}")  # fmt: skip
                base, rivals[f"{short}_fuse_{fuse}"] = stack.enter_context(run)
        assert make_batch(base.task.train, base.shards[0][:8], base.task).ids.shape == (8, 23)
        for key in ("plain", "lean"):
            module = transformers.OPTForCausalLM.from_pretrained(folder / "model").eval()
            rivals[key] = plain_loop(module, base, key == "lean")
        torch.set_num_threads(1)
        spent: dict[str, list[float]] = {key: [] for key in rivals}
        for turn in range(TURNS + 1):
            for key, round in rivals.items():
                began = time.process_time()
                round()
                if turn:
                    spent[key].append(1e3 * (time.process_time() - began) / CLIENTS)
    rows = {f"peer_ms_{key}": statistics.median(each) for key, each in spent.items()}
    for loop in ("plain", "lean"):
        for short in precisions:
            for fuse in FUSED:
                pairs = zip(spent[f"{short}_fuse_{fuse}"], spent[loop], strict=True)
                rows[f"peer_{short}_fuse_{fuse}_of_{loop}"] = statistics.median(a / b for a, b in pairs)
    return rows | {f"peer_{short}": min(rows[f"peer_{short}_fuse_{fuse}_of_plain"] for fuse in FUSED)
                   for short in precisions}  # fmt: skip
