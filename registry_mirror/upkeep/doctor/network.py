"""Probes of the API key, the proxy and the upstream, which is asked for one row of its listing."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from ...environment import bypassed, check_network
from ...errors import ConfigurationError, MirrorError, NoIndexError
from ...index.reader import IndexReader
from ...sync import identity
from ...sync.opening import make_client
from ...transfer.retry import RetryPolicy
from ...units import format_duration
from ...urls import check_proxy, hide_password, is_loopback
from .finding import ok, problem, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ...config import Settings
    from ...secret import Secret
    from .finding import Answer, DoctorContext

    T = TypeVar("T")

SMALL_SKEW, LARGE_SKEW = 60.0, 900.0


class _Once(RetryPolicy):
    """Makes a single try: the doctor reports the present state and does not wait for a better one."""

    def call(self, act: Callable[[], T], progressed: Callable[[], bool] = lambda: False) -> T:  # noqa: ARG002
        return act()


def key(context: DoctorContext) -> Iterable[Answer]:
    """Is there an API key? Only the account that syncs needs one."""
    if context.settings is None:
        return [skipped("the configuration cannot be used")]
    if context.key is not None:
        return [ok("there is an API key")]
    error = context.key_error
    writes = not context.layout.root.exists() or os.access(context.layout.root, os.W_OK)
    if error is None or not writes:
        return [skipped("there is no API key, which a reader does not need")]
    return [problem(error.message, error.hint)]


def proxy(context: DoctorContext) -> Iterable[Answer]:
    """Which proxy do calls go through, and can its address be used?"""
    if context.settings is None:
        return [skipped("the configuration cannot be used")]
    try:
        check_network(context.settings.upstream.proxy, context.settings.upstream.ca_file)
    except ConfigurationError as error:
        return [problem(error.message, error.hint)]
    url, origin = proxy_for(context.settings, getproxies(), bypassed)
    if url is None:
        return [ok("no proxy")]
    shown = hide_password(url)
    try:
        check_proxy(url)
    except ConfigurationError as error:
        return [problem(f"{origin}: {error.message}", error.hint)]
    return [ok(f"calls go through {shown} ({origin})")]


def proxy_for(
    settings: Settings, environment: Mapping[str, str], listed: Callable[[str], bool]
) -> tuple[str | None, str]:
    """The proxy for the upstream, and the name of the setting or variable that has it; None when there is none.

    Args:
        settings: the configuration.
        environment: proxies by scheme, as `getproxies` returns them.
        listed: whether NO_PROXY lists a host.
    """
    parts = urlsplit(settings.upstream.base_url)
    if is_loopback(parts.hostname or ""):
        return None, ""
    if settings.upstream.proxy is not None:
        return settings.upstream.proxy, "upstream.proxy"
    if listed(parts.hostname or ""):
        return None, ""
    for scheme in (parts.scheme, "all"):
        if environment.get(scheme):
            return environment[scheme], f"environment {scheme.upper()}_PROXY"
    return None, ""


def upstream(context: DoctorContext) -> Iterable[Answer]:
    """Does the upstream answer, accept the key, and have the organisation of this root? Do the clocks agree?"""
    if context.offline:
        return [skipped("not asked: --offline")]
    if context.settings is None or context.key is None:
        return [skipped("it cannot be asked without settings and a key")]
    return _ask(context, context.settings, context.key)


def _ask(context: DoctorContext, settings: Settings, api_key: Secret) -> Iterable[Answer]:
    try:
        opened = make_client(settings, api_key, time.sleep, _Once())
    except ConfigurationError as error:
        return [problem(error.message, error.hint)]
    with contextlib.closing(opened) as client:
        session, began = client.session, time.monotonic()
        try:
            page = next(iter(client.models.api.pages(1)), None)
            took = time.monotonic() - began
            identity.news(_facts(context), session.base_url, identity.owners(page) if page else set())
        except MirrorError as error:
            # The clock comes first: a wrong clock may be why a certificate or a signature was refused.
            return [*judge_skew(session.skew), problem(error.message, cure_for(error))]
        return [
            ok(f"{session.base_url} answers in {format_duration(took)} and knows the key"),
            *judge_skew(session.skew),
        ]


def cure_for(error: MirrorError) -> str | None:
    """What to do about a failed call, with a cure of its own for a refused certificate."""
    if "CERTIFICATE" in error.message:
        return (
            "behind an inspecting proxy, or for a private certificate, name the authority's file as upstream.ca_file; "
            "see also that this machine's clock is right"
        )
    return error.hint


def judge_skew(skew: float | None) -> list[Answer]:
    """Judges how many seconds the upstream's clock is ahead of ours; no answer if `skew` is None."""
    if skew is None:
        return []
    said = f"this machine's clock is {format_duration(abs(skew))} {'behind' if skew > 0 else 'ahead of'} the upstream's"
    cure = "set it by NTP: signed addresses and certificates are good for a time only"
    if abs(skew) > LARGE_SKEW:
        return [problem(said, cure)]
    return [warning(said, cure)] if abs(skew) > SMALL_SKEW else [ok("this machine's clock goes as the upstream's")]


def _facts(context: DoctorContext) -> Mapping[str, str]:
    """The index's facts about whose registry this root mirrors; empty when there is no index."""
    try:
        with contextlib.closing(IndexReader(context.layout.index)) as reader:
            return reader.read(lambda snapshot: snapshot.meta())
    except NoIndexError:  # the probe `index` reports why
        return {}
