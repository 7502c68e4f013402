"""What a client of each method needs of VRAM, on models of real size: `python analysis/bench_memory.py`.

Predicted by the memory model (`zorba_ray.rounds.vram`), from shapes alone, in bfloat16; no CUDA context is counted.
Every figure for one batch of 16 × 256 tokens, and of 1 × 400. Ways:

  zorba k         k active blocks, frozen ones in host memory and streamed; all: every block active and resident
  zorba k nf4     the same, frozen blocks on the device in four bits
  zorba 1 double  as zorba 1, streamed through two buffers (model.streaming=double)
  streamed        every block active, all of them in host memory and streamed (model.active=offload)
  in-place        the estimator that perturbs all weights where they lie: activation saves nothing
  d + 2d          the same, with the perturbation and the gradient written out beside the weights
  AdamW           first-order, all weights: float32 masters and moments, bfloat16 copies
  LoRA            first-order, adapters of rank 8 on the projections of attention, frozen weights on the device
  AdamW ckpt      the same two with activation checkpointing: a layer keeps its input alone and is computed again
  LoRA ckpt

Then the published figures of MeZO (OPT, fp16, MultiRC: one text of about 400 tokens), beside in-place.
Writes analysis/results/memory.json and memory.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from zorba_ray.allocation import textbook
from zorba_ray.config.words import text_table
from zorba_ray.model import BlockModel, HeadSpec, hollow_model
from zorba_ray.rounds.vram import vram_of
from zorba_ray.runs.config import load_config

RESULTS = Path(__file__).parent / "results"
MODELS = ("opt-125m", "opt-1.3b", "llama-3.2-3b", "roberta-large")
SHAPES = ((16, 256), (1, 400))
ANCHORS = {"opt-1.3b": (4, 27), "opt-2.7b": (7, 55), "opt-6.7b": (14, 156), "opt-13b": (26, 316), "opt-30b": (58, 633)}
GB = 10**9
WORDS = HeadSpec("words", (5, 6))
CLASSES = HeadSpec("prototype", (), ((5, 6), (5, 7)))


def model_and_vram(name: str, batch: int, tokens: int, *keys: str) -> tuple[BlockModel, object]:
    config = load_config(None, [f"model.config={name}", "model.precision=bfloat16", f"clients.batch={batch}", *keys])
    model = hollow_model(config.model, CLASSES if name.startswith("roberta") else WORDS)
    return model, vram_of(config, model, tokens)


def bytes_of(name: str, batch: int, tokens: int) -> dict[str, float]:
    """Bytes of each way; a client's blocks are the first ones."""
    found: dict[str, float] = {}
    every: np.ndarray | None = None
    for frozen, ending in (("offload", ""), ("nf4", " nf4")):
        model, vram = model_and_vram(name, batch, tokens, "method=zorba", f"model.frozen={frozen}")
        blocks = len(model.blocks)
        every = np.ones(blocks, dtype=bool)
        for label, count in (("1", 1), ("2", 2), ("3", 3), ("half", blocks // 2), ("all", blocks)):
            if label == "all" and ending:
                continue
            found[f"zorba {label}{ending}"] = float(vram.of(np.arange(blocks) < count))  # type: ignore[attr-defined]
        if not ending:
            flat = textbook(vram)  # type: ignore[arg-type]
            found["in-place"] = float(flat.of(every))
            found["d + 2d"] = found["in-place"] + 2 * float(flat.active.sum())
    assert every is not None
    _, vram = model_and_vram(name, batch, tokens, "method=zorba", "model.streaming=double")
    found["zorba 1 double"] = float(vram.of(np.arange(len(every)) < 1))  # type: ignore[attr-defined]
    adamw = ("method=fedavg", "model.frozen=resident")
    lora = ("method=fedit", "model.trainable=lora", "model.frozen=resident", "model.lora.rank=8")
    for label, keys in (
        ("streamed", ("method=zorba", "model.active=offload")),
        ("streamed double", ("method=zorba", "model.active=offload", "model.streaming=double")),
        ("AdamW", adamw),
        ("AdamW ckpt", (*adamw, "fedavg.checkpointing=true")),
        ("LoRA", lora),
        ("LoRA ckpt", (*lora, "fedit.checkpointing=true")),
    ):
        _, vram = model_and_vram(name, batch, tokens, *keys)
        found[label] = float(vram.of(every))  # type: ignore[attr-defined]
    return found


def main() -> None:
    rows, lines = [], []
    for batch, tokens in SHAPES:
        table = []
        for name in MODELS:
            found = bytes_of(name, batch, tokens)
            least = found["zorba 1"]
            for way, size in found.items():
                rows.append({"model": name, "batch": batch, "tokens": tokens, "way": way, "bytes": size,
                             "zorba_1_saves": 1 - least / size})  # fmt: skip
                table.append([name, way, f"{size / GB:.3f}", f"{100 * (1 - least / size):+.2f} %"])
            print(f"{name} {batch} x {tokens} done", flush=True)
        lines += [f"## {batch} × {tokens} tokens, bfloat16, GB (10⁹)", "```",
                  text_table(["Model", "Way", "GB", "one block of zorba saves"], table), "```"]  # fmt: skip
    table = []
    for name, (mezo, adam) in ANCHORS.items():
        _, vram = model_and_vram(name, 1, 400, "method=zorba")
        flat = textbook(vram)  # type: ignore[arg-type]
        ours = float(flat.of(np.ones(flat.blocks, dtype=bool))) / GB
        _, trained = model_and_vram(name, 1, 400, "method=fedavg", "model.frozen=resident")
        full = float(trained.of(np.ones(flat.blocks, dtype=bool))) / GB  # type: ignore[attr-defined]
        for way, size, published in (("in-place", ours, mezo), ("AdamW", full, adam)):
            rows.append({"model": name, "batch": 1, "tokens": 400, "way": way, "bytes": size * GB,
                         "published": published * GB})  # fmt: skip
        table.append([name, f"{ours:.2f}", str(mezo), f"{100 * (ours / mezo - 1):+.1f} %", f"{full:.0f}", str(adam)])
    head = ["Model", "in-place, ours", "MeZO", "difference", "AdamW, ours", "full fine-tuning with Adam, MeZO's"]
    lines += ["## Published by MeZO, GB", "```", text_table(head, table), "```"]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    text = "# VRAM of a client, predicted\n\n`python analysis/bench_memory.py`\n\n" + "\n".join(lines) + "\n"
    (RESULTS / "memory.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
