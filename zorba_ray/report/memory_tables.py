"""VRAM by budget class as a text table."""

from __future__ import annotations

from collections.abc import Sequence

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import text_table
from zorba_ray.runs.memory import ClassMemory

PARTS = ("weights", "active", "hidden", "workspace", "context")


def memory_table(rows: Sequence[ClassMemory]) -> str:
    """Parts, total, what was traced beside it, and the bytes over the bus in a round."""
    head = ["Method", "Class", "Clients", "Blocks", *(part.capitalize() for part in PARTS), "Total", "Traced", "Budget",
            "Slack", "Bus, a round"]  # fmt: skip
    return text_table(head, [
        [row.method, row.name, f"{row.clients:,}", str(row.blocks), *(format_bytes(row.parts[part]) for part in PARTS),
         format_bytes(row.predicted), format_bytes(row.traced), format_bytes(row.budget), format_bytes(row.slack),
         format_bytes(row.bus)]
        for row in rows
    ])  # fmt: skip


def savings_table(rows: Sequence[ClassMemory]) -> str:
    """What each row's total is below (+) or above (−) that of the other ways, in percent; empty without others."""
    others = list(dict.fromkeys(name for row in rows for name in row.saving_against))
    if not others:
        return ""
    cells = [
        [f"{100 * row.saving_against[name]:+.1f} %" if name in row.saving_against else "–" for name in others]
        for row in rows
    ]
    return text_table(
        ["Saves against", "Class", *others],
        [[row.method, row.name, *saved] for row, saved in zip(rows, cells, strict=True)],
    )
