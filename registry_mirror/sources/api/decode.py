"""Decodes the answers of the models API, and keeps each document's JSON text as it was sent. Pure.

msgspec decodes strict JSON. An answer that it refuses, because one row has a NaN for example, is decoded by the
standard library instead, and `members` and `elements` cut the texts out of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from ...digests import text_digest
from ...errors import ProtocolError
from ...transfer.responses import looks_like_html, one_line
from ..source import ListedModel, ListingPage, UnreadableRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_decoder = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def members(text: str) -> dict[str, str]:
    """The values of a JSON object by their keys, as JSON texts exactly as sent. Of a repeated key, the last one counts.

    `json.loads` must have accepted the text before.
    """
    found = {}
    place = _after(text, text.index("{") + 1)
    while text[place] != "}":
        key, place = _decoder.raw_decode(text, place)
        start = _after(text, _after(text, place) + 1)  # past the colon
        _, end = _decoder.raw_decode(text, start)
        found[key] = text[start:end]
        place = _next(text, end)
    return found


def elements(text: str) -> Iterator[str]:
    """Yields the elements of a JSON array, as JSON texts exactly as sent. `json.loads` must have accepted the text."""
    place = _after(text, text.index("[") + 1)
    while text[place] != "]":
        _, end = _decoder.raw_decode(text, place)
        yield text[place:end]
        place = _next(text, end)


def _next(text: str, end: int) -> int:
    """The position of the next member or element, or of the closing bracket."""
    place = _after(text, end)
    return _after(text, place + 1) if text[place] == "," else place


def _after(text: str, place: int) -> int:
    """The first position from `place` on that is not white space."""
    found = _SPACE.match(text, place)
    return found.end() if found else place


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


def decode_page(body: bytes, texts: Mapping[bytes, str] = _NONE) -> ListingPage:
    """Decodes one page of a listing.

    Args:
        body: the answer.
        texts: ids of known rows by their `text_digest`. These rows are recognised and not decoded.

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


def _page(listed: Iterable[msgspec.Raw | bytes], texts: Mapping[bytes, str], pagination: object) -> ListingPage:
    rows, same = [], []
    for raw in listed:
        known = texts.get(text_digest(memoryview(raw))) if texts else None
        if known is None:
            rows.append(decode_row(bytes(raw)))
        else:
            same.append(known)
    return ListingPage(tuple(rows), _has_more(pagination), tuple(same), _total(pagination))


def _given(raw: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw | None:
    """The value of a key; None when the key is missing or its value is null."""
    return None if isinstance(raw, msgspec.UnsetType) or (len(memoryview(raw)) == 4 and bytes(raw) == b"null") else raw


def _decode_leniently(body: bytes, texts: Mapping[bytes, str]) -> ListingPage:
    """Decodes a page that is not strict JSON (NaN in one row's metrics, say) with the standard library."""
    document = load_object("list models", body)
    key = "data" if document.get("data") is not None else "models"
    if not isinstance(document.get(key), list):
        raise ProtocolError("list models: the answer has neither a list 'data' nor a list 'models'")
    listed = map(_utf8, elements(members(_text_of(body))[key]))
    return _page(listed, texts, document.get("pagination"))


def _has_more(pagination: object) -> bool | None:
    """`has_more` if it is a boolean, else None; the official SDK does the same."""
    more = pagination.get("has_more") if isinstance(pagination, dict) else None
    return more if isinstance(more, bool) else None


def _total(pagination: object) -> int | None:
    """`total` if it is a whole number in any spelling, else None: 2.0 is the same number in JSON, and some send "2".

    A misread `has_more` could end a listing early, but a misread total only causes a warning.
    """
    total = pagination.get("total") if isinstance(pagination, dict) else None
    if (isinstance(total, float) and total.is_integer()) or (isinstance(total, str) and _DIGITS.fullmatch(total)):
        total = int(total)
    return total if type(total) is int and 0 <= total < 1 << 53 else None


def decode_row(raw: bytes) -> ListedModel | UnreadableRow:
    """Decodes one row. Returns an UnreadableRow with the reason if it is not a valid model."""
    try:
        try:
            document = _any.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            document = json.loads(raw)
        return row_of(document, raw)
    except RecursionError:
        return UnreadableRow(None, None, "nested too deeply")
    except ValueError:
        return UnreadableRow(None, None, "not JSON")


def row_of(document: object, raw: bytes) -> ListedModel | UnreadableRow:
    """Makes a row from a decoded document and `raw`, its JSON text."""
    text = raw.decode("utf-8", "replace")
    if not isinstance(document, dict):
        return UnreadableRow(None, None, f"not an object: {one_line(text[:60])}")
    identity, name = _text(document.get("id")), _text(document.get("name"))
    if not identity:
        return UnreadableRow(None, name, f"'id' is not a text: {one_line(str(document.get('id')))}")
    if name is None:
        return UnreadableRow(identity, None, f"'name' is not a text: {one_line(str(document.get('name')))}")
    fingerprint = _fingerprint(document)
    return ListedModel(
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


def decode_document(what: str, body: bytes) -> ListedModel:
    """Decodes the answer with one model.

    Raises:
        ProtocolError: the answer has no valid model.
    """
    row = decode_row(_document_in(what, body))
    if isinstance(row, UnreadableRow):
        raise ProtocolError(f"{what}: the answer holds no model: {row.reason}")
    return row


def _document_in(what: str, body: bytes) -> bytes:
    """The model's JSON text in an answer, as it was sent: in an envelope or, from some APIs, bare. `null` for none."""
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
    """The signed address in a `download` answer, unchecked. It is a secret, so no error message quotes it.

    Raises:
        ProtocolError: the answer has no address.
    """
    envelope = load_object(what, body)
    data = envelope.get("data")
    url = data.get("download_url") if isinstance(data, dict) else None
    url = url if url is not None else envelope.get("download_url")
    if not isinstance(url, str):
        raise ProtocolError(f"{what}: the answer has no 'download_url'")
    return url


def load_object(what: str, body: bytes) -> dict[str, Any]:
    """Decodes the body as a JSON object.

    Raises:
        ProtocolError: the body is not a JSON object; the message says what it looks like.
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
    """Decodes a body's text in the encoding that `json.loads` detects."""
    return body.decode(json.detect_encoding(body), "surrogatepass")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _text(value: object) -> str | None:
    """A string that can be encoded as UTF-8, as databases require: lone surrogates become backslash escapes.

    None for other values.
    """
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else None
