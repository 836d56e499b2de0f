"""Durations on the command line."""

from __future__ import annotations

import click

from ..units import parse_duration


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds, of a text like "24h"."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
