from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.errors import ConfigError
from zorba_ray.config.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24 GiB", 24 * 2**30), ("900MiB", 900 * 2**20), ("1.5 GB", 1_500_000_000), ("4096", 4096), (4096, 4096),
        ("0.5kib", 512), (" 2 TB ", 2 * 10**12), ("7 B", 7), (".5 KB", 500), ("1. kB", 1000),
    ],
)  # fmt: skip
def test_sizes_are_read_exactly(text: str | int, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1 B", "1 GiBs", "1,5 GB", "1e9", "nan", "1G", "١ GiB", "0x1", "1 2 KB"])
def test_what_is_not_a_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="24 GiB"):
        parse_bytes(text)


@given(st.integers(0, 2**59))
def test_formatting_keeps_three_digits(count: int) -> None:
    shown = format_bytes(count)
    assert abs(parse_bytes(shown) - count) <= 0.005 * count + 1  # half a unit of the last digit, and parts of a byte
    assert len(shown.split()[0]) <= 4


def test_units_change_where_the_number_would_have_four_digits_and_more() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 1023 * 1024, 2**20 - 1, 9.7 * 2**20, 2**30)] == [
        "0 B", "1023 B", "1.00 KiB", "1023 KiB", "1.00 MiB", "9.70 MiB", "1.00 GiB",
    ]  # fmt: skip
