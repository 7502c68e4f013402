"""The head: from the last layer's hidden states to losses, computing only the logits that the loss needs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zorba_ray.model.batch import Batch
from zorba_ray.model.forward import replaced_forwards, run_chain, run_injected
from zorba_ray.model.linear import product
from zorba_ray.model.spec import HeadSpec
from zorba_ray.model.structure import Parts, output_of

LOGIT_BYTES = 64 << 20  # a vocabulary product is done in slices of positions of at most this many bytes
PROTOTYPE_SCALE = 20.0


class Prototype(nn.Module):
    """logits = 20 · e · w_c + b_c on normalised embeddings e [B, D]; w_c begins as a label sentence's embedding."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)  # [C, D]
        self.bias = nn.Parameter(bias, requires_grad=False)  # [C]

    def forward(self, embedding: Tensor) -> Tensor:
        return PROTOTYPE_SCALE * F.linear(embedding, self.weight) + self.bias


class Head:
    """What follows the last layer. `chained`: the tail's modules follow one another; if not, the model's own forward is
    run around the given hidden state, which is always right and a little slower.
    """

    def __init__(self, module: nn.Module, parts: Parts, spec: HeadSpec, tail: list[nn.Module], chained: bool,
                 prototype: Prototype | None = None):
        self.module = module
        self.parts = parts
        self.spec = spec
        self.tail = tail
        self.chained = chained
        self.prototype = prototype
        self.words = torch.tensor(spec.label_ids, dtype=torch.int64)  # [C] tokens of the label words
        self.output: nn.Module | None = None
        if spec.kind in ("words", "language"):
            self.output = output_of(module)
            assert self.output is not None, "a language-modelling head has an output projection"

    def run_tail(self, hidden: Tensor, ids: Tensor, mask: Tensor) -> Any:
        """Logits of a model with a head of its own, or the last hidden state of a bare one; hidden [B, T, D]."""
        if self.chained:
            return run_chain(self.tail, hidden)
        out = run_injected(self.module, self.parts, hidden, ids, mask)
        return out.last_hidden_state if self.spec.kind == "prototype" else out.logits

    def logits(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits of the labels [M, C] for answers at positions or pooled."""
        if self.spec.kind == "classifier":
            return self.run_tail(hidden, batch.ids, batch.mask)  # type: ignore[no-any-return]
        if self.spec.kind == "prototype":
            assert self.prototype is not None
            return self.prototype(self.embed(hidden, batch.ids, batch.mask))  # type: ignore[no-any-return]
        assert self.output is not None
        return self._at_positions(hidden, batch, self.words)

    def embed(self, hidden: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Mean of the real tokens' last hidden states, normalised: [B, D]."""
        last = self.run_tail(hidden, ids, mask)
        weight = mask.unsqueeze(-1).to(last.dtype)
        return F.normalize((last * weight).sum(1) / weight.sum(1), dim=-1)

    def answer(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(mean loss, 0-d float64; whether each answer is right, bool [M])."""
        if self.spec.kind == "language" or self.spec.loss == "vocabulary":
            return self._answer_vocabulary(hidden, batch)
        logits = self.logits(hidden, batch).double()
        loss = F.cross_entropy(logits, batch.targets)
        return loss, logits.argmax(-1) == batch.targets

    def _answer_vocabulary(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy over all tokens, in slices of positions; accuracy over the label words where there are any."""
        assert self.output is not None
        words = self.words if self.spec.kind == "words" else None
        tokens = batch.targets if words is None else words[batch.targets]
        slices = max(1, LOGIT_BYTES // (4 * int(self.output.weight.shape[0])))  # type: ignore[index]
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        right = []
        for start in range(0, batch.count, slices):
            part = slice(start, start + slices)
            logits = self._at_positions(hidden, batch, None, part)
            wanted = tokens[part]
            chosen = logits.gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
            loss = loss + (torch.logsumexp(logits, -1).double() - chosen.double()).sum()
            guess = logits.argmax(-1) if words is None else words[logits[:, words].argmax(-1)]
            right.append(guess == wanted)
        return loss / batch.count, torch.cat(right)

    def likeliest(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The token with the largest logit at each wanted position [M]."""
        assert self.output is not None
        slices = max(1, LOGIT_BYTES // (4 * int(self.output.weight.shape[0])))  # type: ignore[index]
        return torch.cat([
            self._at_positions(hidden, batch, None, slice(start, start + slices)).argmax(-1)
            for start in range(0, batch.count, slices)
        ])  # fmt: skip

    def _at_positions(self, hidden: Tensor, batch: Batch, rows: Tensor | None, part: slice = slice(None)) -> Tensor:
        """Logits [M, rows] at the wanted positions; `rows` of the output projection, or all."""
        at = (batch.rows[part], batch.cols[part])
        gathered, ids = hidden[at].unsqueeze(1), batch.ids[at].unsqueeze(1)  # [M, 1, D], [M, 1]
        mask = torch.ones_like(ids)
        if rows is None:
            return self.run_tail(gathered, ids, mask).squeeze(1).float()  # type: ignore[no-any-return]
        output = self.output
        assert output is not None
        weight: Tensor = output.weight[rows].float()  # type: ignore[index]
        bias: Tensor | None = None if output.bias is None else output.bias[rows]  # type: ignore[index]
        with replaced_forwards([output], [lambda x: product(x, weight, bias)]):
            return self.run_tail(gathered, ids, mask).squeeze(1)  # type: ignore[no-any-return]
