"""One root mirrors one organisation. A key of another one must not mark a single model gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..catalog import Catalog
    from ..upstream import Row
    from .reporter import Reporter


def check(catalog: Catalog, base_url: str, rows: Sequence[Row], reporter: Reporter) -> None:
    """Compares a page with what the root mirrors, and records it for a new root.

    Raises:
        ConfigurationError: it is another organisation; nothing of the page was recorded.
    """
    facts = catalog.facts()
    fresh = news(facts, base_url, {row.organization_id for row in rows if row.organization_id})
    if not fresh or not rows:
        return
    if "base_url" in fresh and "base_url" in facts:
        reporter.say(f"the same organisation is now mirrored from {base_url} (it was {facts['base_url']})")
    catalog.set_facts(fresh)


def news(facts: Mapping[str, str], base_url: str, organizations: set[str]) -> dict[str, str]:
    """The facts to record, none when nothing is new.

    The organisation decides. An upstream that names none is known by its address. A listing may hold other
    organisations' public models besides; it has to hold one of our own.

    Raises:
        ConfigurationError: it is another organisation.
    """
    ours, address = facts.get("organization_id"), facts.get("base_url")
    if ours is not None and organizations and ours not in organizations:
        raise ConfigurationError(
            f"this root mirrors organisation {ours}, and the key is one of organisation {min(organizations)}",
            hint="use the key of the first one, or another root",
        )
    if address is not None and address != base_url and not (ours and organizations):
        raise ConfigurationError(
            f"this root mirrors {address}, and the upstream is now {base_url}; nothing tells that it is the same "
            "organisation",
            hint="use another root, or the old address",
        )
    fresh = {} if address == base_url else {"base_url": base_url}
    if ours is None and len(organizations) == 1:
        fresh["organization_id"] = min(organizations)
    return fresh
