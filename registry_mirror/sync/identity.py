"""One root mirrors one organisation. A key of another organisation must not mark any model gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..sources.source import ListedModel, ListingPage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..catalog import Catalog
    from ..sources.source import Source
    from .reporter import Reporter


_MOST_HELD = 64 << 20
"""Characters of documents to hold back at most. After that the organisations seen so far decide."""


def confirmed(
    catalog: Catalog, source: Source, pages: Iterable[ListingPage], reporter: Reporter
) -> Iterator[ListingPage]:
    """Holds pages back until one shows which organisation the registry belongs to, then yields them all.

    At most `_MOST_HELD` characters are held back.

    Raises:
        ConfigurationError: the registry is of another organisation, or the upstream is this mirror itself.
    """
    facts, held, organizations = catalog.facts(), [], set()
    sure, weight, base_url = False, 0, source.address
    for page in pages:
        refuse_loop(facts["catalog_id"], source.chain)
        if sure:
            yield page
            continue
        held.append(page)
        weight += sum(len(row.document) for row in page.rows if isinstance(row, ListedModel))
        organizations |= owners(page)
        sure = settled(facts, base_url, organizations) or weight > _MOST_HELD
        if sure:
            _record(catalog, facts, base_url, organizations, reporter)
            yield from held
    refuse_loop(facts["catalog_id"], source.chain)  # the loop above does not check a listing without pages
    if held and not sure:
        _record(catalog, facts, base_url, organizations, reporter)
        yield from held
    if (links := ",".join(source.chain)) != facts.get("chain", ""):
        catalog.set_facts({"chain": links})


def refuse_loop(catalog_id: str, chain: tuple[str, ...]) -> None:
    """Refuses an upstream that mirrors this mirror, directly or through others.

    Mirrors in a circle would keep every model that one of them ever had.

    Raises:
        ConfigurationError: the upstream's answers came through this catalog.
    """
    if catalog_id in chain:
        raise ConfigurationError(
            "the upstream is a mirror of this very mirror, so nothing new would ever come",
            hint="set upstream.base_url to the registry, or to a mirror that does not sync from here",
        )


def check(catalog: Catalog, source: Source, row: ListedModel, reporter: Reporter) -> None:
    """Checks the upstream as `confirmed` does, by a single model.

    Raises:
        ConfigurationError: the model is of another organisation, or comes from this mirror itself.
    """
    facts = catalog.facts()
    refuse_loop(facts["catalog_id"], source.chain)
    _record(catalog, facts, source.address, owners(ListingPage((row,), None)), reporter)


def owners(page: ListingPage) -> set[str]:
    """Returns the organisations of a page's models.

    Public models may belong to anybody, so they count only when all models on the page are public.
    """
    rows = [row for row in page.rows if isinstance(row, ListedModel) and row.organization_id]
    own = [row for row in rows if row.visibility != "public"] or rows
    return {row.organization_id for row in own if row.organization_id}


def settled(facts: Mapping[str, str], base_url: str, organizations: set[str]) -> bool:
    """Returns whether the organisations seen so far tell which organisation the registry belongs to."""
    ours = facts.get("organization_id")
    if ours is not None:
        return ours in organizations or (not organizations and facts.get("base_url") == base_url)
    return bool(organizations) or facts.get("base_url") in (None, base_url)


def _record(
    catalog: Catalog, facts: Mapping[str, str], base_url: str, organizations: set[str], reporter: Reporter
) -> None:
    fresh = news(facts, base_url, organizations)
    if "base_url" in fresh and "base_url" in facts:
        reporter.say(f"the same organisation is now mirrored from {base_url} (it was {facts['base_url']})")
    if fresh:
        catalog.set_facts(fresh)


def news(facts: Mapping[str, str], base_url: str, organizations: set[str]) -> dict[str, str]:
    """Returns the facts to record; empty when nothing is new.

    The organisation identifies the upstream. An upstream that names none is identified by its address.

    Raises:
        ConfigurationError: the upstream is of another organisation, or nothing shows that it is of the same one.
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
