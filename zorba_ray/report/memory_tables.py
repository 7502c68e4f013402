"""VRAM by budget class, as a text table and as what a page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zorba_ray.config.units import format_bytes
from zorba_ray.config.words import text_table
from zorba_ray.runs.memory import ClassMemory

PARTS = ("weights", "active", "hidden", "workspace", "context")


def memory_table(rows: Sequence[ClassMemory]) -> str:
    """A line for each method and class."""
    said = [{"Method": row.method, "Class": row.name} | told(row) for row in rows]
    return text_table(list(said[0]), [list(each.values()) for each in said])


def told(row: ClassMemory, measured: Mapping[str, str] | None = None) -> dict[str, str]:
    """Parts, their total, what was traced and perhaps `measured` beside it, and the bytes over the bus in a round."""
    parts = {part.capitalize(): format_bytes(row.parts[part]) for part in PARTS}
    head = {"Clients": f"{row.clients:,}", "Blocks": str(row.blocks)}
    beside = {"Predicted": format_bytes(row.predicted), "Traced": format_bytes(row.traced)} | dict(measured or {})
    room = {"Budget": format_bytes(row.budget), "Slack": format_bytes(row.slack)}
    return head | parts | beside | room | {"Bus, a round": format_bytes(row.bus)}


def savings_table(rows: Sequence[ClassMemory]) -> str:
    """What each row's total is below (+) or above (−) that of the other ways, in percent; empty without others."""
    others = list(dict.fromkeys(name for row in rows for name in row.saving_against))
    if not others:
        return ""
    return text_table(
        ["Saves against", "Class", *others],
        [[row.method, row.name, *(saving(row, name) for name in others)] for row in rows],
    )


def saving(row: ClassMemory, other: str) -> str:
    return f"{100 * row.saving_against[other]:+.1f} %" if other in row.saving_against else "–"
