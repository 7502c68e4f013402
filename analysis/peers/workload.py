"""What every peer does: a client's two forwards at θ ± μz and one number of it, the textbook way, in place.

PyTorch, transformers and NumPy alone, so that every environment can run it. `make` writes what all of them read: a
small OPT with random weights, with the tokenizer of zorba_ray's embedded model, and each client's mini-batch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers as tf

torch.set_num_threads(1)
MU, RATE, TEXTS, TOKENS, WORDS = 1e-3, 1e-4, 8, 18, (84, 85)
SHAPE = {"hidden_size": 128, "ffn_dim": 512, "num_hidden_layers": 6, "num_attention_heads": 4, "vocab_size": 86,
         "word_embed_proj_dim": 128, "max_position_embeddings": 64, "dropout": 0.0,
         "attention_dropout": 0.0}  # fmt: skip


def make(folder: Path, clients: int, tokenizer: Path) -> None:
    torch.manual_seed(0)
    tf.OPTForCausalLM(tf.OPTConfig(**SHAPE)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, SHAPE["vocab_size"], (clients, TEXTS, TOKENS))
    np.savez(folder / "batches.npz", tokens=tokens, targets=rng.integers(0, 2, (clients, TEXTS)))


class Model:
    """The model in place: moved along a direction and back, as in the textbook; directions come from seeds."""

    def __init__(self, folder: Path):
        self.model = tf.OPTForCausalLM.from_pretrained(folder).eval()
        self.parameters = list(self.model.parameters())
        self.done = 0  # steps

    @torch.no_grad()
    def move(self, seed: int, length: float) -> None:
        torch.manual_seed(seed)
        for parameter in self.parameters:
            parameter.add_(torch.randn_like(parameter), alpha=length)

    @torch.no_grad()
    def loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> float:
        hidden = self.model.model(tokens).last_hidden_state[:, -1]
        logits = hidden @ self.model.lm_head.weight[list(WORDS)].T
        return float(torch.nn.functional.cross_entropy(logits, targets))

    def scalar(self, tokens: torch.Tensor, targets: torch.Tensor, seed: int) -> float:
        self.move(seed, MU)
        above = self.loss(tokens, targets)
        self.move(seed, -2 * MU)
        below = self.loss(tokens, targets)
        self.move(seed, MU)
        return (above - below) / (2 * MU)

    def step(self, seed: int, scalar: float) -> None:
        self.move(seed, -RATE * scalar)
        self.done += 1


def batches(folder: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    kept = np.load(folder / "batches.npz")
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(kept["tokens"], kept["targets"], strict=True)]


@cache
def kept(folder: Path) -> tuple[Model, list[tuple[torch.Tensor, torch.Tensor]]]:
    """This process's own."""
    return Model(folder), batches(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--way", default="")
    return parser.parse_args()


def round_done(round: int, scalars: list[float]) -> None:
    """A line for the harness: when, and what came out."""
    print(f"ROUND {round} {time.time():.3f} {np.mean(scalars):.6f} {len(scalars)} pid {os.getpid()}", flush=True)
