"""Sizes of memory and numbers of clients as people write them: "24 GiB", "900 KiB"; "all", "20", "10 %"."""

from __future__ import annotations

import re
from fractions import Fraction

from zorba_ray.config.errors import ConfigError

UNITS = {"b": 1} | {
    prefix.lower() + suffix: base ** (power + 1)
    for power, prefix in enumerate("KMGTP")
    for suffix, base in (("ib", 1024), ("b", 1000))
}
CLIENTS = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", re.ASCII)
SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(size: str | int) -> int:
    """The number of bytes of a size with a unit; a bare number is bytes. Parts of a byte are dropped."""
    match = SIZE.fullmatch(str(size))
    unit = (match[2] or "b").lower() if match else ""
    if match is None or unit not in UNITS:
        raise ConfigError(f"{str(size)!r} is not a size: write a number and a unit, such as '24 GiB' or '900 MB'")
    return int(Fraction(match[1]) * UNITS[unit])


def parse_clients(text: str, count: int) -> float:
    """How many of `count` clients a text asks for, more than 0: all, a whole number, or a share such as '2.5 %'."""
    if text.strip() == "all":
        return float(count)
    match = CLIENTS.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a number of clients: write all, a number, or a share such as '10 %'")
    wanted = count * float(match[1]) / 100 if match[2] else float(match[1])
    if not match[2] and not wanted.is_integer():
        raise ConfigError(f"{text!r} is not a whole number; a share is written with a percent sign, such as '10 %'")
    if not 0 < wanted <= count:
        raise ConfigError(f"{text!r} must be more than 0 and at most clients.count, which is {count}; all is 'all'")
    return wanted


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
