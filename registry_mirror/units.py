"""Parses and formats sizes, durations and counts: "5 GiB", "1h30m", "1 file". Standard library only.

1 MB is 1,000,000 bytes and 1 MiB is 1,048,576. A bare letter is binary (1 G is 1 GiB), as in `dd`, `du -h` and `ls -h`.
Case does not matter.
"""

from __future__ import annotations

import math
import re

SIZE_EXAMPLES = '"5 GiB", "300MB", "1.5G" or a whole number of bytes'
DURATION_EXAMPLES = '"90s", "15m", "1h30m", "7d" or a number of seconds'

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?\s*(?:([kmgt])(i?b)?|b)?", re.IGNORECASE)
_SIZE_LETTERS = "kmgt"

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)"
# Largest unit first and each at most once, so that "5m1h" is a mistake and not 65 minutes.
_DURATION = re.compile(
    rf"(?:{_NUMBER}\s*w)?\s*(?:{_NUMBER}\s*d)?\s*(?:{_NUMBER}\s*h)?\s*(?:{_NUMBER}\s*m(?:in)?)?\s*(?:{_NUMBER}\s*s)?",
    re.IGNORECASE,
)
_LONG = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def parse_size(value: str | int) -> int:
    """Returns the number of bytes, rounded down.

    Raises:
        ValueError: the text is not a size, or the number is negative.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"not a size: {value!r}; write it like {SIZE_EXAMPLES}")
    whole, fraction, letter, unit = match.groups()
    fraction = fraction or ""
    if letter is None:
        factor = 1
    else:
        base = 1000 if unit and unit.lower() == "b" else 1024
        factor = base ** (_SIZE_LETTERS.index(letter.lower()) + 1)
    # Computed in integers, because a float would round sizes above 8 PiB.
    return int(whole + fraction) * factor // int(10 ** len(fraction))


def parse_duration(value: str | float) -> float:
    """Returns seconds. A bare number means seconds.

    Raises:
        ValueError: the text is not a duration, or the number is negative or not finite.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if re.fullmatch(_NUMBER, text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"not a duration: {value!r}; write it like {DURATION_EXAMPLES}")
    return sum(float(count) * _SECONDS[unit] for count, unit in zip(match.groups(), _SECONDS, strict=True) if count)


def counted(count: object, word: str) -> str:
    """Returns `1 file` or `2 files`. A `count` that is no number is printed as it is, with the plural."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def format_size(size: int) -> str:
    """Returns a size as `1.2 GiB`: in binary units, with one decimal from KiB up."""
    amount = float(size)
    for unit in _BINARY:
        if unit == "B" and amount < 1024:
            return f"{size} B"
        if round(amount, 1) < 1024:
            return f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount * 1024:.1f} {_BINARY[-1]}"


def format_duration(seconds: float) -> str:
    """Returns a duration as `2 h 5 min`: the two largest units, the rest dropped, and `ms` below one second.

    A negative duration, which a changed clock may cause, gives `0 s`.
    """
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    rest = max(0, round(seconds))
    parts = []
    for unit, length in _LONG:
        count, rest = divmod(rest, length)
        parts.append((count, unit))
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(shown) or "0 s"
