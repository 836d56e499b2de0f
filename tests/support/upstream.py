"""The demo upstream with scripted faults, and models by the thousand.

    with FaultyUpstream(many_models(3)) as upstream:
        upstream.inject(error(503), kind="list", times=2)           # the third list is answered
        upstream.inject(CutAfter(1000), kind="weights", path="model-00001")  # one fetch of its file is cut

A fault is a value that is called with the request and with the way to the true answer. The first injection that
matches a request and is not used up is applied; injections of one kind are so used up in the order of the script.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from registry_mirror.demo import DemoUpstream, Request, Response
from registry_mirror.demo.api import PREFIX

from .documents import make_document, make_model, many_models, weights_bytes
from .faults import (
    Answer,
    Chunked,
    CutAfter,
    Digests,
    Do,
    Edit,
    Fault,
    FlipByte,
    Gate,
    Gzipped,
    HangUp,
    Headers,
    Hold,
    OnlyDigest,
    Truncate,
    UntilClose,
    empty,
    error,
    etag_only,
    html,
    json_body,
    no_digest,
    redirect,
    unrelated_etag,
    wrong_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Answer",
    "Chunked",
    "CutAfter",
    "Digests",
    "Do",
    "Edit",
    "Fault",
    "FaultyUpstream",
    "FlipByte",
    "Gate",
    "Gzipped",
    "HangUp",
    "Headers",
    "Hold",
    "Injection",
    "Kind",
    "OnlyDigest",
    "Truncate",
    "UntilClose",
    "empty",
    "error",
    "etag_only",
    "html",
    "json_body",
    "kind_of",
    "make_document",
    "make_model",
    "many_models",
    "no_digest",
    "redirect",
    "unrelated_etag",
    "weights_bytes",
    "wrong_digest",
]

Kind = Literal["list", "get", "download", "weights", "delete", "versions", "files", "file", "other"]


@dataclass
class Injection:
    """Faults, the requests that they hit, and how often; `hits` counts. None in a condition matches everything."""

    faults: tuple[Fault, ...]
    kind: Kind | None
    origin: str | None
    method: str | None
    path: re.Pattern[str] | None
    times: int | None
    hits: int = 0

    def matches(self, request: Request) -> bool:
        """Whether it is not used up and this request meets every condition."""
        return (
            (self.times is None or self.hits < self.times)
            and self.kind in {None, kind_of(request)}
            and self.origin in {None, request.origin}
            and self.method in {None, request.method}
            and (self.path is None or self.path.search(request.path) is not None)
        )


class FaultyUpstream(DemoUpstream):
    """A `DemoUpstream` that goes wrong where a test says so."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._script: list[Injection] = []
        self._script_lock = threading.Lock()

    def inject(
        self,
        *faults: Fault,
        kind: Kind | None = None,
        origin: Literal["api", "storage"] | None = None,
        method: str | None = None,
        path: str | None = None,
        times: int | None = 1,
    ) -> Injection:
        """Scripts faults for the next `times` matching requests, or for all of them (None).

        Several faults are applied to one answer, the first one innermost. `path` is a regular expression that is
        searched for in the undecoded path; the storage's paths hold the model's id and the name of the file.
        """
        injection = Injection(faults, kind, origin, method, re.compile(path) if path else None, times)
        with self._script_lock:
            self._script.append(injection)
        return injection

    def heal(self) -> None:
        """Forgets the script, and lets everything pass that waits at a gate."""
        with self._script_lock:
            script, self._script = self._script, []
        for injection in script:
            for fault in injection.faults:
                if isinstance(fault, Hold):
                    fault.gate.release.set()

    def stop(self) -> None:
        """Stops; what waits at a gate wakes up to a closed connection."""
        self.disconnect()
        self.heal()
        super().stop()

    def api(self, request: Request) -> Response:
        """The API's answer, with what the script says done to it."""
        return self._scripted(request, super().api)

    def storage(self, request: Request) -> Response:
        """The storage's answer, with what the script says done to it."""
        return self._scripted(request, super().storage)

    def _scripted(self, request: Request, answer: Callable[[Request], Response]) -> Response:
        with self._script_lock:
            injection = next((one for one in self._script if one.matches(request)), None)
            if injection is not None:
                injection.hits += 1
        true: Callable[[], Response] = lambda: answer(request)  # noqa: E731 - rebound below
        for fault in injection.faults if injection else ():
            true = _bound(fault, request, true)
        return true()


def kind_of(request: Request) -> Kind:
    """What a request asks for."""
    if request.origin == "storage":
        return "weights"
    rest = request.segments[len(PREFIX) :]
    if request.segments[: len(PREFIX)] != PREFIX or not rest:
        return "other"
    if rest == ("",):
        return "list"
    if len(rest) == 1:
        return "delete" if request.method == "DELETE" else "get"
    kinds: dict[tuple[str, ...], Kind] = {
        ("download",): "download",
        ("versions",): "versions",
        ("files",): "files",
        ("files", "download"): "file",
    }
    return kinds.get(rest[1:], "other")


def _bound(fault: Fault, request: Request, answer: Callable[[], Response]) -> Callable[[], Response]:
    return lambda: fault(request, answer)
