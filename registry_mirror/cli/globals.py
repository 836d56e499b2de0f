"""What stands before the verb: `mirror [--root DIR] [--config FILE] [-v] VERB`."""

from __future__ import annotations

from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The flags that every verb shares, as they were typed; None for one that was not."""

    root: str | None = None
    config: str | None = None
    verbose: bool = False


pass_globals = click.make_pass_decorator(GlobalOptions)
