"""The Triton kernel: in Triton's interpreter and as machine code for real GPUs where triton is installed, on a GPU
where there is one."""

import importlib.util
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from zorba_ray.noise import Direction, combine

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def run(program, **environment):
    """A fresh process, because Triton decides at import whether it interprets."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_triton
def test_the_interpreted_kernel_gives_the_bits_of_the_reference():
    run(
        """
        import numpy as np, torch
        from zorba_ray.noise import Direction, combine_reference
        from zorba_ray.noise.cuda import combine_cuda
        from zorba_ray.noise.identity import pack_terms

        rng = np.random.default_rng(0)
        for kind in ("gaussian", "rademacher"):
            for size, offset, terms in ((1, 0, 1), (0, 0, 1), (3000, 4000, 0), (300, 2**32 - 150, 2), (2500, 2**34, 2)):
                base = rng.standard_normal(size).astype(np.float32)
                named = [(Direction(2**63 + 5, 7, p, 3, p), float(rng.standard_normal())) for p in range(terms)]
                expected = torch.from_numpy(combine_reference(base, named, 9, kind, offset))
                for dtype, bits in ((torch.float32, torch.int32), (torch.float16, torch.int16)):
                    # (not bfloat16: the interpreter truncates where a GPU rounds)
                    out = torch.empty(size, dtype=dtype)
                    combine_cuda(out, torch.from_numpy(base), *pack_terms(named, 9), kind, offset)
                    assert torch.equal(out.view(bits), expected.to(dtype).view(bits)), (kind, size, offset, dtype)
        """,
        TRITON_INTERPRET="1",
    )


@needs_triton
def test_the_machine_code_rounds_every_product_and_sum():
    """Compiled for GPUs that need not be here: no fused multiply-add, no flushing of subnormals."""
    code = run(
        """
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from zorba_ray.noise import cuda

        arguments = {"out": "*bf16", "base": "*fp32", "rows": "*i32", "levels": "*i32", "terms": "i32",
                     "first_group": "i64", "offset": "i64", "count": "i32"}
        for gaussian, capability in ((True, 80), (False, 80), (True, 90), (False, 90)):
            constants = {"GAUSSIAN": gaussian, "PIECES": 2 if gaussian else 32, "GROUPS": 16 if gaussian else 1}
            signature = arguments | dict.fromkeys(constants, "constexpr")
            source = ASTSource(fn=cuda._combine, signature=signature, constexprs=constants)
            options = {"num_warps": cuda.WARPS, "enable_fp_fusion": False}
            print(triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["ptx"])
        """
    )
    assert "mul.rn.f32" in code and "add.rn.f32" in code and "cvt.rn.bf16.f32" in code and "mul.hi.u32" in code
    assert "fma." not in code and ".ftz" not in code


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cuda_gives_the_bits_of_the_cpu(kind, dtype):
    rng = np.random.default_rng(1)
    for size, offset, terms in ((1, 0, 1), (4096, 0, 1), (100_003, 12_345, 3), (10**6, 2**32 - 500, 16), (5000, 7, 0)):
        base = torch.from_numpy(rng.standard_normal(size).astype(np.float32))
        named = [(Direction(2**63 + 5, 7, p, 3, p), float(rng.standard_normal())) for p in range(terms)]
        here, there = torch.empty(size, dtype=dtype), torch.empty(size, dtype=dtype, device="cuda")
        combine(here, base, named, 9, kind, offset)
        combine(there, base.cuda(), named, 9, kind, offset)
        view = torch.int32 if dtype == torch.float32 else torch.int16
        assert torch.equal(here.view(view), there.cpu().view(view)), (size, offset, terms)
        inside = base.cuda()
        combine(inside, inside, named, 9, kind, offset)
        if dtype == torch.float32:
            assert torch.equal(inside.view(view), there.view(view))
