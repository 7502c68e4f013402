"""The one operation on weights: out = base + Σ_p c_p z_p, on the device where the vectors are; and many in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zorba_ray.noise.identity import Kind, Term, Terms, chained, pack_terms
from zorba_ray.noise.layout import check_range

if TYPE_CHECKING:
    from torch import Tensor

    from zorba_ray.noise.cpu import Format


def combine(
    out: Tensor, base: Tensor, terms: Sequence[Term] | Terms, block: int, kind: Kind, offset: int = 0
) -> None:
    """out = base + Σ_p c_p z_p for values offset … offset + n of a block; flat contiguous [n], out may be base itself.

    The base is float32, out float32, bfloat16 or float16 (rounded once, to nearest even). The arithmetic is fixed:
    c_p as float32, products summed in the order of the terms, the sum added to the base, each operation rounded to
    float32 and never fused. The bits are therefore the same on every device and for every number of threads, and for
    any cut of the vector into slices. On a CPU it runs on `torch.get_num_threads()` threads.
    """
    import torch

    assert base.dtype == torch.float32, f"base must be float32, not {base.dtype}"
    assert out.dtype in (torch.float32, torch.bfloat16, torch.float16), f"out cannot be {out.dtype}"
    assert out.dim() == base.dim() == 1 and out.shape == base.shape, f"shapes {out.shape} and {base.shape}"
    assert out.is_contiguous() and base.is_contiguous(), "vectors must be contiguous"
    assert out.device == base.device, f"out is on {out.device}, base on {base.device}"
    check_range(kind, offset, base.numel())
    if base.is_meta:  # no numbers to compute, only where they would lie
        return
    names, coefficients = pack_terms(terms, block)
    if base.is_cuda:
        from zorba_ray.noise.cuda import combine_cuda

        combine_cuda(out.detach(), base.detach(), names, coefficients, kind, offset)
    else:
        from zorba_ray.noise.cpu import combine_cpu

        form: Format = "float32"
        target = out.detach()
        if out.dtype != torch.float32:
            form = "bfloat16" if out.dtype == torch.bfloat16 else "float16"
            target = target.view(torch.uint16)
        source = base.detach().numpy()
        combine_cpu(target.numpy(), form, source, names, coefficients, kind, offset, torch.get_num_threads())


def combine_in_turn(vector: Tensor, moves: Sequence[Terms], block: int, kind: Kind) -> None:
    """vector = combine(vector, …) for each of the moves in their order: the same bits, and on a CPU in one pass, in
    which a window of the vector stays in first-level cache through all of them."""
    moves = [terms for terms in moves if len(terms)]
    if vector.device.type != "cpu" or len(moves) < 2:
        for terms in moves:
            combine(vector, vector, terms, block, kind)
        return
    import torch

    from zorba_ray.noise.cpu import combine_cpu

    assert vector.dtype == torch.float32 and vector.dim() == 1 and vector.is_contiguous()
    check_range(kind, 0, vector.numel())
    names, coefficients = pack_terms(chained(moves), block)
    weights, counts = vector.detach().numpy(), [len(terms) for terms in moves]
    combine_cpu(weights, "float32", weights, names, coefficients, kind, 0, torch.get_num_threads(), counts)
