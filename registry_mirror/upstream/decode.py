"""From the bytes of an answer to rows, documents and download addresses. Pure.

Two envelopes exist and each SDK era reads only one: `models`/`model`/`download_url` (up to 1.60.0) and `data` (from
1.61.0). Either is read here. One row that is not a model must not cost its page.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ..digests import text_digest
from ..errors import ProtocolError
from .answers import looks_like_html, one_line
from .slices import elements, members

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_STAMPED = (
    "updated_at",
    "version",
    "precision",
    "current_version_id",
    "pinned_version_id",
    "latest_version_id",
    "md5",
    "sha256",
    "checksum",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One model as the upstream sent it.

    Attributes:
        document: the JSON text, unknown fields included.
        fingerprint: changes when anything in the document does; key order and white space do not count.
        stamp: changes when the weights may have: a digest of `updated_at`, the version fields and checksums, or the
            fingerprint where there is no `updated_at`.
        detailed: whether the row carries metrics and class mapping; if not, `get` has more.
        text_digest: of the JSON text as it was sent.
    """

    id: str
    name: str
    status: str
    model_type: str | None
    architecture: str | None
    organization_id: str | None
    visibility: str | None
    version: str | None
    created_at: str | None
    updated_at: str | None
    document: str
    fingerprint: str
    stamp: str
    detailed: bool
    text_digest: bytes


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no model; `id` and `name` are what could be read of it."""

    id: str | None
    name: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the listing.

    Attributes:
        has_more: None when the upstream did not say.
        same: ids of rows whose text was recognised; those are not among `rows`.
        total: how many rows it says the whole listing has; None when it did not say.
    """

    rows: tuple[Row | BadRow, ...]
    has_more: bool | None
    same: tuple[str, ...] = ()
    total: int | None = None

    @property
    def count(self) -> int:
        """How many rows the upstream sent."""
        return len(self.rows) + len(self.same)

    @property
    def ids(self) -> set[str]:
        """Every id that could be read."""
        return {*self.same, *(row.id for row in self.rows if row.id is not None)}

    @property
    def unnamed(self) -> int:
        """How many rows have no id that could be read."""
        return sum(row.id is None for row in self.rows)


class _Envelope(msgspec.Struct):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    models: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: Any = None
    pagination: Any = None


_DIGITS = re.compile(r"[0-9]{1,15}")

_envelope = msgspec.json.Decoder(_Envelope)
_raw_rows = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()
_canonical = msgspec.json.Encoder(order="deterministic")


_NONE: Mapping[bytes, str] = {}


def decode_page(body: bytes, texts: Mapping[bytes, str] = _NONE) -> Page:
    """The rows of a listing.

    Args:
        texts: ids of rows by `text_digest`, which are recognised without being decoded.

    Raises:
        ProtocolError: the body is not a listing.
    """
    try:
        envelope = _envelope.decode(body)
        listed = _given(envelope.data) or _given(envelope.models)
        if listed is None:
            raise ProtocolError("list models: the answer has neither 'data' nor 'models'")
        listed_rows = _raw_rows.decode(listed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(body, texts)
    return _page(listed_rows, texts, envelope.pagination)


def _page(listed: Iterable[msgspec.Raw | bytes], texts: Mapping[bytes, str], pagination: object) -> Page:
    rows, same = [], []
    for raw in listed:
        known = texts.get(text_digest(memoryview(raw))) if texts else None
        if known is None:
            rows.append(decode_row(bytes(raw)))
        else:
            same.append(known)
    return Page(tuple(rows), _has_more(pagination), tuple(same), _total(pagination))


def _given(raw: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw | None:
    """What stands under a key; None when it is absent or null."""
    return None if isinstance(raw, msgspec.UnsetType) or (len(memoryview(raw)) == 4 and bytes(raw) == b"null") else raw


def _decode_leniently(body: bytes, texts: Mapping[bytes, str]) -> Page:
    """A page that strict JSON refuses (NaN in one row's metrics, say) through the standard library."""
    document = load_object("list models", body)
    key = "data" if document.get("data") is not None else "models"
    if not isinstance(document.get(key), list):
        raise ProtocolError("list models: the answer has neither a list 'data' nor a list 'models'")
    listed = map(_utf8, elements(members(_text_of(body))[key]))
    return _page(listed, texts, document.get("pagination"))


def _has_more(pagination: object) -> bool | None:
    """Only a real boolean counts, as in the official SDK."""
    more = pagination.get("has_more") if isinstance(pagination, dict) else None
    return more if isinstance(more, bool) else None


def _total(pagination: object) -> int | None:
    """A whole number counts, however it is written: 2.0 is the same number in JSON, and some send "2".

    Unlike a `has_more` of the wrong type, which could end a listing early, a total taken wrongly costs a warning only.
    """
    total = pagination.get("total") if isinstance(pagination, dict) else None
    if (isinstance(total, float) and total.is_integer()) or (isinstance(total, str) and _DIGITS.fullmatch(total)):
        total = int(total)
    return total if type(total) is int and 0 <= total < 1 << 53 else None


def decode_row(raw: bytes) -> Row | BadRow:
    """One row, or what is wrong with it."""
    try:
        try:
            document = _any.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            document = json.loads(raw)
        return row_of(document, raw)
    except RecursionError:
        return BadRow(None, None, "nested too deeply")
    except ValueError:
        return BadRow(None, None, "not JSON")


def row_of(document: object, raw: bytes) -> Row | BadRow:
    """Reads a decoded document, of which `raw` is the JSON."""
    text = raw.decode("utf-8", "replace")
    if not isinstance(document, dict):
        return BadRow(None, None, f"not an object: {one_line(text[:60])}")
    identity, name = _text(document.get("id")), _text(document.get("name"))
    if not identity:
        return BadRow(None, name, f"'id' is not a text: {one_line(str(document.get('id')))}")
    if name is None:
        return BadRow(identity, None, f"'name' is not a text: {one_line(str(document.get('name')))}")
    fingerprint = _fingerprint(document)
    return Row(
        id=identity,
        name=name,
        status=_text(document.get("status")) or "",
        model_type=_text(document.get("model_type")),
        architecture=_text(document.get("architecture")),
        organization_id=_text(document.get("organization_id")),
        visibility=_text(document.get("visibility")),
        version=_text(document.get("version")),
        created_at=_text(document.get("created_at")),
        updated_at=_text(document.get("updated_at")),
        document=text,
        fingerprint=fingerprint,
        stamp=_stamp(document, fingerprint),
        detailed="metrics" in document and "class_mapping" in document,
        text_digest=text_digest(raw),
    )


def _fingerprint(value: object) -> str:
    try:
        canonical = _canonical.encode(value)
    except (UnicodeEncodeError, ValueError, msgspec.MsgspecError):
        canonical = json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def _stamp(document: dict[str, Any], fingerprint: str) -> str:
    if not document.get("updated_at"):
        return fingerprint
    return _fingerprint([document.get(key) for key in _STAMPED])


def decode_document(what: str, body: bytes) -> Row:
    """The one model of a `get`.

    Raises:
        ProtocolError: the body holds no model.
    """
    row = decode_row(_document_in(what, body))
    if isinstance(row, BadRow):
        raise ProtocolError(f"{what}: the answer holds no model: {row.reason}")
    return row


def _document_in(what: str, body: bytes) -> bytes:
    """The JSON of the model in an answer, as it was sent; some APIs answer with the bare model."""
    try:
        envelope = _envelope.decode(body)
        found = _given(envelope.data) or _given(envelope.model)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        document = load_object(what, body)
    else:
        return bytes(found) if found is not None else b"null" if envelope.id is None else body
    key = next((key for key in ("data", "model") if document.get(key) is not None), None)
    if key is not None:
        return _utf8(members(_text_of(body))[key])
    return body if "id" in document else b"null"


def decode_download_url(what: str, body: bytes) -> str:
    """The signed address of a `download` answer, as it was sent. It is a secret: it goes into no error.

    Raises:
        ProtocolError: there is none.
    """
    envelope = load_object(what, body)
    data = envelope.get("data")
    url = data.get("download_url") if isinstance(data, dict) else None
    url = url if url is not None else envelope.get("download_url")
    if not isinstance(url, str):
        raise ProtocolError(f"{what}: the answer has no 'download_url'")
    return url


def load_object(what: str, body: bytes) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        ProtocolError: it is something else; the message says what it looks like.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        kind = "a web page, as a sign-in page or a proxy sends" if looks_like_html(body) else "no JSON"
        raise ProtocolError(f"{what}: the upstream answered {kind}", hint="check upstream.base_url") from None
    if not isinstance(document, dict):
        raise ProtocolError(f"{what}: the upstream answered JSON that is no object")
    return document


def _text_of(body: bytes) -> str:
    """A body as `json.loads` reads it."""
    return body.decode(json.detect_encoding(body), "surrogatepass")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _text(value: object) -> str | None:
    """A text that UTF-8 can carry, as databases want it; half a surrogate pair in it becomes a backslash escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else None
