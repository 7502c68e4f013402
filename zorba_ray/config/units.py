"""Sizes of memory as people write them: "24 GiB", "1.5 GB", "900 KiB"."""

from __future__ import annotations

import re
from fractions import Fraction

from zorba_ray.config.errors import ConfigError

UNITS = {"b": 1} | {
    prefix.lower() + suffix: base ** (power + 1)
    for power, prefix in enumerate("KMGTP")
    for suffix, base in (("ib", 1024), ("b", 1000))
}
SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(size: str | int) -> int:
    """The number of bytes of a size with a unit; a bare number is bytes. Parts of a byte are dropped."""
    match = SIZE.fullmatch(str(size))
    unit = (match[2] or "b").lower() if match else ""
    if match is None or unit not in UNITS:
        raise ConfigError(f"{str(size)!r} is not a size: write a number and a unit, such as '24 GiB' or '900 MB'")
    return int(Fraction(match[1]) * UNITS[unit])


def format_bytes(count: float, digits: int = 3) -> str:
    """A size for people, in the largest binary unit that keeps it at 1 or more."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if round(abs(size)) < 1024:
            break
        size, unit = size / 1024, larger
    if unit == "B":
        return f"{size:.0f} B"
    decimals = max(digits - len(str(int(float(f"{abs(size):.{digits}g}")))), 0)
    return f"{size:.{decimals}f} {unit}"
