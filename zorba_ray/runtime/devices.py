"""Which GPU a process sees, and what others hold of it: Ray knows of neither other users nor other jobs."""

from __future__ import annotations

import subprocess

MIB = 2**20


def identity(device: int = 0) -> str:
    """The same for every process on the same GPU, whatever number it has there."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def held_by_others() -> dict[str, int]:
    """Bytes in use on each GPU of this machine, by its identity, before this process takes any. Empty where the
    driver's own tool is missing: then all that is in use counts as CUDA context."""
    query = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [line.partition(",") for line in told.splitlines()]
    return {own.strip().removeprefix("GPU-"): int(used) * MIB for own, _, used in rows if used.strip().isdecimal()}
