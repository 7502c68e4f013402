"""Show one version of one block at a time; the base itself is never written."""

from __future__ import annotations

import torch
from torch import Tensor

from zorba_ray.engine.version import Frozen, Version
from zorba_ray.model import Block, BlockModel
from zorba_ray.model.quantise import dequantise
from zorba_ray.noise import Kind, Term, combine

SLICE = 1 << 20  # float32 numbers of an offloaded block that are on the device at once beside the scratch


class Showing:
    """The version that a model's parameters show now. `base()` brings the base back, at the latest after the walk."""

    def __init__(self, model: BlockModel, kind: Kind):
        self._model = model
        self._kind = kind
        self._block: Block | None = None
        self._version: Version | None = None
        self.written = 0  # versions that went through the scratch

    def show(self, block: Block, version: Version, rows: int = 0) -> None:
        """`rows`: many batches of that many tokens will meet this version, so that packing it pays; 0: not many."""
        if self._block is block and self._version == version:
            return
        if self._block is not None:
            self._block.pack(0)
            if self._block is not block:
                self.base()
        if not version and self._model.precision == torch.float32 and not block.offloaded:
            block.point(block.base)
        else:
            self._write(block, version)
        if rows:
            block.pack(rows)
        self._block, self._version = block, version

    def _write(self, block: Block, version: Version) -> None:
        """scratch = base + Σ c z: matrices in the precision of evaluation, the rest in float32."""
        scratch = self._model.get_scratch(block)
        cut, size, views = block.matrix_size, block.size, scratch.show(block)
        if isinstance(version, Frozen):
            few = block.frozen(self._model.device)
            for i, (view, base) in enumerate(zip(views, block.base, strict=True)):
                if i < len(few):
                    dequantise(few[i], view)
                else:
                    view.copy_(base)
        elif scratch.matrices.dtype == torch.float32:
            self._combine(scratch.matrices[:size], block, version, 0)
        else:
            if cut:
                self._combine(scratch.matrices[:cut], block, version, 0)
            if size > cut:
                self._combine(scratch.others[: size - cut], block, version, cut)
        block.point(views)
        self.written += 1

    def _combine(self, out: Tensor, block: Block, version: tuple[Term, ...], start: int) -> None:
        """One part of the scratch; an offloaded vector comes from host memory, in slices where it cannot lie there."""
        source = block.vector[start : start + out.numel()]
        if not block.offloaded:
            combine(out, source, version, block.noise_id, self._kind, offset=start)
        elif not version or out.dtype == source.dtype:
            out.copy_(source, non_blocking=True)
            if version:
                combine(out, out, version, block.noise_id, self._kind, offset=start)
        else:
            for at in range(0, out.numel(), SLICE):
                part = source[at : at + SLICE].to(out.device, non_blocking=True)
                combine(out[at : at + SLICE], part, version, block.noise_id, self._kind, offset=start + at)

    def base(self) -> None:
        if self._block is not None:
            self._block.pack(0)
            self._block.point(self._block.base)
        self._block = self._version = None
