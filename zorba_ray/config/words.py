"""How numbers are said to people: shares, durations, operations, tables of text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """30 ms, 0.4 s, 12 s, 3 min 20 s, 2 h 05 min, 3 d 04 h."""
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def flops(count: float) -> str:
    """12.3 GFLOP, in decimal units as is usual for operations."""
    rounded = float(f"{count:.3g}")
    power = min(int(math.log10(rounded) / 3 + 1e-9), 7) if rounded >= 1 else 0
    return f"{rounded / 1000**power:.3g} {['', 'K', 'M', 'G', 'T', 'P', 'E', 'Z'][power]}FLOP"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest entry; all but the first to the right."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = []
    for line in [head, *rows]:
        padded = [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join([line[0].ljust(widths[0]), *padded]).rstrip())
    return "\n".join([lines[0], "  ".join("─" * w for w in widths), *lines[1:]])
