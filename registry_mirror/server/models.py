"""The endpoint of the models resource: list, get, download, versions and files. Read-only."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from ..index.values import Selection
from . import answers, artifacts
from .dialects import Dialect, dialect_of, fitted
from .errors import Endpoint, error_response, json_response
from .lookups import FoundModel, Pages, current, current_weights, find, found_of, record, substitutes_of
from .requests import API_PREFIX, Address, ModelAction, address, list_query, parameters

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.responses import Response

    from ..index.queries import Snapshot
    from .context import Call, ServerContext
    from .requests import ListQuery

CHAIN = "X-Mirror-Chain"
_PREFIX = API_PREFIX.encode()
# Writes are answered with 501, after which SDKs do not try again, as they do after most others above 499.
_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_READS = ("GET", "HEAD")
_READ_ONLY = "this mirror is read-only: models are trained, changed and run upstream"


class ModelsEndpoint(Endpoint):
    """The endpoint of the models resource."""

    def __init__(self, site: ServerContext) -> None:
        super().__init__(site)
        self._pages = Pages()

    async def answer(self, call: Call) -> Response:
        """Answers one request for models."""
        rest = call.raw_path[len(_PREFIX) :]
        if not call.raw_path.startswith(_PREFIX) or rest[:1] not in (b"", b"/"):
            return error_response(404, "no such address here")
        asked = address(rest)
        call.holder = self.site.guard.admit(call.headers)
        if asked.action is ModelAction.NOWHERE:
            return error_response(404, f"no such address here; the list of models is at {API_PREFIX}/")
        if call.method in _WRITES:
            return error_response(501, _READ_ONLY)
        if call.method not in _READS:
            return error_response(405, "models are read with GET or HEAD", {"Allow": ", ".join(_READS)})
        if asked.action is ModelAction.OTHER:
            return error_response(404, "a mirror has no such part of a model")
        if asked.action is ModelAction.LIST:
            # On a thread, because a page of a thousand models would delay other requests.
            return await run_in_threadpool(self._list, call)
        return self._one(call, asked)

    def _list(self, call: Call) -> Response:
        who, given = dialect_of(call.headers.get("user-agent", "")), parameters(call.query)

        def listed(snapshot: Snapshot) -> Response:
            query = list_query(given, snapshot.has_type)
            meta = snapshot.meta()
            index_id = meta.get("catalog_id"), meta.get("revision")
            return chained(self._page(snapshot, index_id, query, who), meta)

        return self.site.reader.read(listed)

    def _page(self, snapshot: Snapshot, index_id: Hashable, query: ListQuery, who: Dialect) -> bytes:
        # SDKs 1.8.0 to 1.60.0 look up a name only this way, so it finds the same model as `find`.
        lookup = query.name is not None and query.status is None and not who.verbatim
        selection = Selection(
            query.status, query.model_type, lookup, lookup, query.name, types=who.types, statuses=who.statuses
        )
        found = self._pages.page(snapshot, index_id, selection, query.limit, query.offset)
        documents = [
            fitted(each.text, who, partial(substitutes_of, snapshot, each.first_seen)) for each in found.documents
        ]
        return answers.page(documents, limit=query.limit, offset=query.offset, total=found.total)

    def _one(self, call: Call, asked: Address) -> Response:
        who, given = dialect_of(call.headers.get("user-agent", "")), parameters(call.query)
        if asked.action is ModelAction.GET:
            return self.site.reader.read(lambda snapshot: self._record(snapshot, asked, who))
        found = self.site.reader.read(lambda snapshot: found_of(snapshot, find(snapshot, asked, who)))
        match asked.action:
            case ModelAction.DOWNLOAD:
                return self._download(call, found, artifacts.WantedArtifact.of(given))
            case ModelAction.VERSIONS:
                return json_response(answers.data(artifacts.versions(found)))
            case ModelAction.FILES:
                return json_response(answers.data(artifacts.files(found)))
            case _:
                wanted = artifacts.named_file(found, given.get("version_id", ""), given.get("name", ""))
                return self._download(call, found, wanted)

    @staticmethod
    def _record(snapshot: Snapshot, asked: Address, who: Dialect) -> Response:
        found = record(snapshot, asked, who)
        body = answers.record(fitted(found.text, who, partial(substitutes_of, snapshot, found.first_seen)))
        # Only a mirror needs the chain, which costs a query.
        return chained(body, snapshot.meta()) if who.verbatim else json_response(body)

    def _download(self, call: Call, found: FoundModel, wanted: artifacts.WantedArtifact) -> Response:
        """Answers with an address of the weights. If they have to be fetched first, it is one that waits for them."""
        site, base = self.site, call.base_url(self.site)
        artifacts.check_variant(found, wanted)
        entry = current(found, wanted.format)
        if entry is None and site.fetcher is not None and found.status == "ready":
            return self._signed(call, base, found, f"/fetch/{artifacts.fetch_name(found, wanted.format)}", wanted, {})
        entry = current_weights(site, found, wanted.format)
        site.metrics.hit()
        path = f"/blobs/{artifacts.blob_file(entry)}"
        facts = {"md5": entry.md5, "sha256": entry.sha256, "size_bytes": entry.size}
        return self._signed(call, base, found, path, wanted, facts)

    def _signed(
        self,
        call: Call,
        base: str,
        found: FoundModel,
        path: str,
        wanted: artifacts.WantedArtifact,
        facts: dict[str, Any],
    ) -> Response:
        filename, ticket = artifacts.filename(found.name, wanted.format), self.site.guard.ticket(call.holder)
        query = self.site.signer.query(path, self.site.metrics.now(), holder=ticket, name=filename)
        values = {"download_url": f"{base}{path}?{query}", "model_name": found.name, "filename": filename, **facts}
        return json_response(answers.both(values))


def chained(body: bytes, meta: dict[str, str]) -> Response:
    """Returns an answer whose header names the catalogs it came through, nearest first. It reveals a circle."""
    links = filter(None, (meta.get("catalog_id"), meta.get("chain")))
    return json_response(body, headers={CHAIN: ", ".join(links)})
