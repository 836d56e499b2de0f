"""One root mirrors one organisation. A key of another one must not mark a single model gone."""

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
"""Characters of documents. Whose registry it is and what so many did not show is decided by what they did."""


def confirmed(
    catalog: Catalog, source: Source, pages: Iterable[ListingPage], reporter: Reporter
) -> Iterator[ListingPage]:
    """Lets pages through once one of them shows whose registry it is; until then they are held back, up to a limit.

    Raises:
        ConfigurationError: it is another organisation, or this mirror itself; no page was let through.
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
    refuse_loop(facts["catalog_id"], source.chain)  # a listing without a page has been checked nowhere else
    if held and not sure:
        _record(catalog, facts, base_url, organizations, reporter)
        yield from held
    if (links := ",".join(source.chain)) != facts.get("chain", ""):
        catalog.set_facts({"chain": links})


def refuse_loop(catalog_id: str, chain: tuple[str, ...]) -> None:
    """A mirror of itself, be it round several others, would hold on to whatever was ever in the circle.

    Raises:
        ConfigurationError: this catalog is one of those that the upstream's answers came through.
    """
    if catalog_id in chain:
        raise ConfigurationError(
            "the upstream is a mirror of this very mirror, so nothing new would ever come",
            hint="set upstream.base_url to the registry, or to a mirror that does not sync from here",
        )


def check(catalog: Catalog, source: Source, row: ListedModel, reporter: Reporter) -> None:
    """The same for a single model.

    Raises:
        ConfigurationError: it is of another organisation, or comes from this mirror itself.
    """
    facts = catalog.facts()
    refuse_loop(facts["catalog_id"], source.chain)
    _record(catalog, facts, source.address, owners(ListingPage((row,), None)), reporter)


def owners(page: ListingPage) -> set[str]:
    """The organisations of a page's models. Public ones may be anybody's, so they count only where all are public."""
    rows = [row for row in page.rows if isinstance(row, ListedModel) and row.organization_id]
    own = [row for row in rows if row.visibility != "public"] or rows
    return {row.organization_id for row in own if row.organization_id}


def settled(facts: Mapping[str, str], base_url: str, organizations: set[str]) -> bool:
    """Whether what was seen so far tells whose registry it is."""
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
    """The facts to record, none when nothing is new.

    The organisation decides. An upstream that names none is known by its address.

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
