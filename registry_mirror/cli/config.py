"""`mirror config check` and `mirror config show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import GlobalOptions, pass_globals, settings_of
from .render import print_json

if TYPE_CHECKING:
    from ..config import Loaded, SettingRow


@click.group()
def command() -> None:
    """Check the configuration, or show it with the origin of each value."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_globals
def check(options: GlobalOptions, *, as_json: bool) -> None:
    """Validate every setting, and that the API key can be read. No network is used.

    Exits with 0 when all is well, and with 2 and one line that names the key, where it stands and the cure when not.
    """
    from ..config import check_surroundings

    loaded = settings_of(options)
    check_surroundings(loaded)
    if as_json:
        print_json(_verdict(loaded), indent=None)
    else:
        click.echo(_verdict_line(loaded))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_globals
def show(options: GlobalOptions, *, as_json: bool) -> None:
    """Print every setting with its value and where the value came from.

    Passwords are masked. Of the API key it says whether there is one, and where.
    """
    from ..config import describe_key, show_json, show_rows

    loaded = settings_of(options)
    api_key = describe_key(loaded.settings.upstream)
    if as_json:
        print_json(show_json(loaded, api_key))
    else:
        click.echo(_table(show_rows(loaded, api_key)))


def _verdict(loaded: Loaded) -> dict[str, object]:
    return {
        "ok": True,
        "file": None if loaded.file is None else str(loaded.file),
        "root": str(loaded.settings.root),
        "base_url": loaded.settings.upstream.base_url,
    }


def _verdict_line(loaded: Loaded) -> str:
    source = loaded.file or "no config.toml, so the defaults and the environment"
    return f"ok: {source}; root {loaded.settings.root}; upstream {loaded.settings.upstream.base_url}"


def _table(rows: tuple[SettingRow, ...]) -> str:
    key, value = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{row.key:<{key}}  {row.value:<{value}}  {row.origin}" for row in rows)
