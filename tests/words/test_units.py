"""Sizes and durations as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.units import counted, format_duration, format_size, parse_duration, parse_size

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (1024, 1024),
        ("0", 0),
        ("1024", 1024),
        ("1024 B", 1024),
        ("5 GiB", 5 * GIB),
        ("5gib", 5 * GIB),
        (" 5 GiB ", 5 * GIB),
        ("1.5G", GIB + GIB // 2),
        ("1K", KIB),
        ("1 kib", KIB),
        ("1M", MIB),
        ("1MiB", MIB),
        ("2T", 2 * TIB),
        ("2 TiB", 2 * TIB),
        ("1kB", 1000),
        ("300MB", 300_000_000),
        ("1.5GB", 1_500_000_000),
        ("1 TB", 10**12),
        ("0.3 KB", 300),
        ("0.0001 KB", 0),
        # A float would be off by one here.
        ("9007199254740993", 9007199254740993),
        ("9007199254740993 B", 9007199254740993),
        ("8796093022208.000000001 K", 8796093022208 * KIB),
    ],
)
def test_a_size_is_read_to_the_byte(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "G",
        "-1",
        "+1",
        "1,5G",
        "1e9",
        ".5G",
        "5.",
        "5 GiBs",
        "5 PiB",
        "5 i",
        "1 2",
        "\u0661",
        "5 bit",
        "9" * 30,
    ],
)
def test_what_is_no_size_is_refused_by_name_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="not a size") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert '"5 GiB"' in str(caught.value)


@pytest.mark.parametrize("value", [-1, True, False, None, 1.5, [1]])
def test_a_size_is_a_text_or_a_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (30, 30.0),
        (0, 0.0),
        (0.5, 0.5),
        ("30", 30.0),
        ("90s", 90.0),
        ("15m", 900.0),
        ("15 min", 900.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (" 1 H 30 M ", 5400.0),
        ("2 h 5 min", 7500.0),
        ("24h", 86_400.0),
        ("7d", 604_800.0),
        ("1w", 604_800.0),
        ("1w2d3h4m5s", 604_800 + 2 * 86_400 + 3 * 3600 + 4 * 60 + 5),
        ("1.5h", 5400.0),
        ("0.25s", 0.25),
    ],
)
def test_a_duration_is_read_to_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "m",
        "-1s",
        "5m1h",
        "1h1h",
        "1 hour",
        "1y",
        "15 M 3",
        "1:30",
        "1e3",
        "5ms",
        "1,5h",
        "inf",
        "nan",
        "9" * 30,
    ],
)
def test_what_is_no_duration_is_refused_by_name_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)
    assert '"1h30m"' in str(caught.value)


@pytest.mark.parametrize("value", [-1, -0.5, True, None, math.inf, math.nan, ["1h"]])
def test_a_duration_is_a_text_or_a_finite_number(value: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (KIB, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 1, "1.0 MiB"),
        (MIB, "1.0 MiB"),
        (1_288_490_189, "1.2 GiB"),
        (GIB - 1, "1.0 GiB"),
        (3 * TIB, "3.0 TiB"),
        (2000 * TIB, "2000.0 TiB"),
    ],
)
def test_a_size_is_shown_short(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (0.2, "200 ms"),
        (0.9996, "1 s"),
        (1, "1 s"),
        (45.4, "45 s"),
        (59.7, "1 min"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3599.9, "1 h"),
        (7500, "2 h 5 min"),
        (7559, "2 h 5 min"),
        (3605, "1 h"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (10 * 86_400 + 59, "10 d"),
    ],
)
def test_a_duration_is_shown_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=2**62))
def test_a_shown_size_is_within_a_twentieth_of_the_size(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= max(size / 20, 0)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_shown_duration_reads_as_no_more_and_nearly_all_of_it(seconds: int) -> None:
    read = parse_duration(format_duration(seconds))
    assert seconds * 0.95 - 1 <= read <= seconds


@pytest.mark.parametrize(("count", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), ("?", "? files")])
def test_a_count_goes_with_its_word(count, said):
    assert counted(count, "file") == said
