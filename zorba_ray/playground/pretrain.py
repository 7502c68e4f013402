"""Pretrain the playground's model: `python -m zorba_ray.playground.pretrain [FOLDER]`, two minutes on one core.

An OPT of 0.31 M parameters (6 blocks, width 64, one token per word) reads a hundred thousand documents of the language
once. Half of them tell of a single clause: what a clause means is learnt there, and how clauses add up from the rest.
One thread and named random numbers make the result repeatable on one machine; the committed folder is what runs use.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from zorba_ray.noise import Domain, generator
from zorba_ray.playground import MODEL
from zorba_ray.playground.language import CLAUSES, LABEL_WORDS, PROMPT, WORDS, sample_documents, sample_reviews

SEED = 0
STEPS = 1500
BATCH = 64
LR = 3e-3
WARMUP = 100
INIT_STD = 0.06
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # OPT's, with its ids: text begins with </s>, number 2
BOS, PAD = 2, 1


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, and `</s>` before the text, as OPT has it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[("</s>", BOS)])
    special = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]


def build_model(vocabulary: int, seed: int) -> OPTForCausalLM:
    config = OPTConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        word_embed_proj_dim=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        ffn_dim=256,
        max_position_embeddings=64,
        dropout=0.0,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=BOS,
    )
    model = OPTForCausalLM(config)
    with torch.no_grad():
        for i, (_, parameter) in enumerate(sorted(model.named_parameters())):
            if parameter.ndim == 2:  # norms begin at 1, biases at 0, as transformers leaves them
                values = generator(seed, Domain.INIT, i).standard_normal(tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(INIT_STD * torch.from_numpy(values))
    return model


def pretrain(folder: Path, seed: int = SEED, steps: int = STEPS) -> None:
    """Train from scratch and save model and tokenizer to a folder that `from_pretrained` reads."""
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), seed)
    text = generator(seed, Domain.LANGUAGE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.98), weight_decay=0.01)
    began = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
        ids = encode(tokenizer, sample_documents(text, BATCH, clauses=CLAUSES if step % 2 else 1))
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(
                f"step {step + 1}/{steps}  loss {loss.item():.3f}  prompted accuracy "
                f"{prompted_accuracy(model, tokenizer, seed):.1%}  {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Texts of equal length as one matrix [count, T]."""
    return torch.tensor(tokenizer(texts)["input_ids"])


@torch.no_grad()
def prompted_accuracy(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, count: int = 1000) -> float:
    """How often the likelier of the label words after the prompt is the right one, on reviews of their own."""
    reviews = sample_reviews(generator(seed, Domain.LANGUAGE, 1), count)
    ids = encode(tokenizer, [PROMPT.format(text=text) for text in reviews.texts])
    words = tokenizer.convert_tokens_to_ids(list(LABEL_WORDS))
    answers = model(input_ids=ids).logits[:, -1, words].argmax(1)
    return float((answers.numpy() == reviews.labels).mean())


if __name__ == "__main__":
    pretrain(Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL)
