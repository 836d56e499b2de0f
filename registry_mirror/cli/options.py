"""The options that verbs share."""

from __future__ import annotations

from dataclasses import dataclass

import click

from ..units import parse_duration


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The flags that every verb shares, as they were typed; None for one that was not."""

    root: str | None = None
    config: str | None = None
    verbose: bool = False


pass_globals = click.make_pass_decorator(GlobalOptions)


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds, of a text like "24h"."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
