"""Show one version of one block at a time; the base itself is never written.

With two buffers (`model.streaming=double`) what is shown next is written into the one while the other is computed with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zorba_ray.engine.lane import Lane, lane_on
from zorba_ray.engine.version import Frozen, Version
from zorba_ray.model import Block, BlockModel
from zorba_ray.model.blocks import SLICE
from zorba_ray.model.quantise import dequantise
from zorba_ray.noise import Kind, Term, combine


class Showing:
    """The version that a model's parameters show now. `base()` brings the base back, at the latest after the walk."""

    def __init__(self, model: BlockModel, kind: Kind, lane: Lane | None = None):
        self._model = model
        self._kind = kind
        self._block: Block | None = None
        self._version: Version | None = None
        self._lane = lane or lane_on(model.device)
        self._coming: tuple[Block, Version] | None = None  # written ahead
        self._buffer = 0  # the scratch that was written last
        self.written = 0  # versions that went through a scratch

    def show(self, block: Block, version: Version, rows: int = 0) -> None:
        """`rows`: many batches of that many tokens will meet this version, so that packing it pays; 0: not many."""
        if self._shows(block, version):
            return
        written = self._arrived(block, version)
        if self._block is not None:
            self._block.pack(0)
            if self._block is not block:
                self.base()
        if self._lies_there(block, version):
            block.point(block.base)
        else:
            self._buffer = self._other()
            if not written:
                self._write(block, version, self._buffer)
            block.point(self._model.get_scratch(block, self._buffer).show(block))
        if rows:
            block.pack(rows)
        self._block, self._version = block, version

    def ahead(self, block: Block, version: Version) -> None:
        """Begin to write what is shown next, if there is a buffer for it beside the one that is shown."""
        if self._model.buffers == 1 or isinstance(version, Frozen) or not self._model.has_scratch(block):
            return
        if not self._lies_there(block, version) and not self._shows(block, version):
            self._coming = block, version
            buffer = self._other()
            self._lane.ahead(lambda: self._write(block, version, buffer))

    def _shows(self, block: Block, version: Version) -> bool:
        return self._block is block and self._version == version

    def _lies_there(self, block: Block, version: Version) -> bool:
        """Whether it is shown where the base lies."""
        return not version and self._model.precision == torch.float32 and not block.offloaded

    def _other(self) -> int:
        return (self._buffer + 1) % self._model.buffers

    def _arrived(self, block: Block, version: Version) -> bool:
        """Whether this was written ahead; whatever was, is there from now on."""
        if self._coming is None:
            return False
        coming, self._coming = self._coming, None
        self._lane.wait()
        return coming[0] is block and coming[1] == version

    def _write(self, block: Block, version: Version, buffer: int) -> None:
        """scratch = base + Σ c z: matrices in the precision of evaluation, the rest in float32."""
        scratch = self._model.get_scratch(block, buffer)
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
        self.written += 1

    def _combine(self, out: Tensor, block: Block, version: tuple[Term, ...], start: int) -> None:
        """One part of the scratch; an offloaded vector comes from host memory, in slices where it cannot lie there."""
        source, staging = block.vector[start : start + out.numel()], self._model.staging
        if not block.offloaded:
            combine(out, source, version, block.noise_id, self._kind, offset=start)
        elif out.dtype == source.dtype or (not version and staging is None):
            out.copy_(source, non_blocking=True)
            if version:
                combine(out, out, version, block.noise_id, self._kind, offset=start)
        else:
            for at in range(0, out.numel(), SLICE):
                part = source[at : at + SLICE]
                if staging is None:
                    part = part.to(out.device, non_blocking=True)
                else:
                    part = staging[: part.numel()].copy_(part, non_blocking=True)
                combine(out[at : at + SLICE], part, version, block.noise_id, self._kind, offset=start + at)

    def base(self) -> None:
        if self._coming is not None:  # an accident came between; its memory may be freed now
            self._coming = None
            self._lane.wait()
        if self._block is not None:
            self._block.pack(0)
            self._block.point(self._block.base)
        self._block = self._version = None
