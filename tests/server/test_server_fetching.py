"""`mirror serve --fetch`: weights that nobody has asked for yet, fetched once for all who wait."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from support.roots import Root
from support.serving import API, Serving, new_key
from support.syncing import environment, files_under, mirror, run_sync, wait_for
from support.upstream import (
    Chunked,
    CutAfter,
    FaultyUpstream,
    Gate,
    HangUp,
    Hold,
    error,
    make_document,
    make_model,
    many_models,
    no_digest,
    weights_bytes,
    wrong_digest,
)

from registry_mirror.secret import Secret
from registry_mirror.server.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 3 << 20
SIGNING_KEY = "s" * 40
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)


# Each test takes a model that no other has touched.
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def registry():
    """Models whose weights no sync has fetched."""
    models = many_models(40, size=SIZE)
    with FaultyUpstream([*models, make_model(99, status="training")]) as running:
        yield running


@pytest.fixture
def upstream(registry):
    registry.requests.clear()
    yield registry
    registry.heal()


@pytest.fixture(scope="module")
def root(registry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fetch") / "root"
    list_only(registry, folder)
    return folder


def list_only(upstream: FaultyUpstream, root: Path) -> None:
    """A root that knows every model and has no weights."""
    upstream.inject(error(404), kind="weights", times=None)
    run_sync(upstream, root)
    upstream.heal()
    upstream.requests.clear()


@pytest.fixture(scope="module")
def server(registry, root):
    with fetching(registry, root, PUBLISHES_BY_LEAVE + FORGETS_FAILURES) as running:
        yield running
    assert "Traceback" not in running.text
    assert registry.api_key not in running.text


@pytest.fixture
def one():
    """The number of a model."""
    return next(NUMBERS)


# Publishing waits while the file is there that the root has beside it.
PUBLISHES_BY_LEAVE = """
import os, sys, time
import registry_mirror.store.blobs as blobs
real = blobs.publish
def publish(layout, *args, **more):
    while os.path.exists(f"{layout.root}.wait"):
        time.sleep(0.01)
    return real(layout, *args, **more)
blobs.publish = publish
"""


FORGETS_FAILURES = "import registry_mirror.server.fetch as f; f._REMEMBERED = 0.0\n"


def fetching(upstream: FaultyUpstream, root: Path, before: str = "") -> Serving:
    return Serving(root, "--fetch", env=environment(upstream, root), before=before)


def name(number: int) -> str:
    return f"model-{number:05d}"


def content(number: int) -> bytes:
    return weights_bytes(number, SIZE)


def take(url: str) -> httpx.Response:
    return httpx.get(url, timeout=30, trust_env=False)


def is_stored(root: Path, number: int) -> bool:
    md5 = hashlib.md5(content(number), usedforsecurity=False).hexdigest()
    return f"{md5[:2]}/{md5}.onnx" in files_under(root / "blobs")


@contextlib.contextmanager
def held(upstream: FaultyUpstream, number: int, after: int | None) -> Iterator[Gate]:
    """Storage stands still after so many bytes, for as long as the block lasts."""
    gate = Gate()
    upstream.inject(Hold(gate, after), kind="weights", path=name(number))
    try:
        yield gate
    finally:
        gate.release.set()


def test_twenty_clients_cost_one_fetch_and_then_none(upstream, root, server, one):
    url = server.download_url(name(one))
    assert url.startswith(f"{server.url}/fetch/")
    with ThreadPoolExecutor(20) as clients:
        with held(upstream, one, SIZE // 2) as gate:
            waiting = [clients.submit(take, url) for _ in range(20)]
            gate.wait_reached()
            wait_for(lambda: len([fd for fd in server.descriptors() if ".part" in fd]) >= 20)
        answers = [each.result() for each in waiting]
    assert {(each.status_code, each.content == content(one)) for each in answers} == {(200, True)}
    assert {each.headers["content-length"] for each in answers} == {str(SIZE)}
    assert upstream.requests.storage == 1
    assert is_stored(root, one)

    assert take(url).content == content(one)  # the old address goes on, from the cache
    after = server.download_url(name(one))
    assert after.startswith(f"{server.url}/blobs/")
    assert take(after).content == content(one)
    assert upstream.requests.storage == 1
    assert server.metrics()['mirror_weights_fetches_total{outcome="ok"}'] >= 1
    assert mirror("path", name(one), env=environment(upstream, root)).returncode == 0


def test_bytes_arrive_before_the_upstream_has_sent_them_all(upstream, server, one):
    with held(upstream, one, SIZE // 2) as gate:
        with httpx.stream("GET", server.download_url(name(one)), timeout=30, trust_env=False) as answer:
            pieces = answer.iter_raw()
            got = next(pieces)
            gate.wait_reached()
            assert not gate.release.is_set()
            assert got
            gate.release.set()
            got += b"".join(pieces)
        assert got == content(one)


def test_the_last_byte_waits_until_the_weights_are_stored(upstream, root, server, one):
    wait = root.with_name("root.wait")
    wait.touch()
    try:
        with httpx.stream("GET", server.download_url(name(one)), timeout=30, trust_env=False) as answer:
            pieces, got = answer.iter_raw(), b""
            while len(got) < SIZE - 1:
                got += next(pieces)
            assert got == content(one)[:-1]
            assert not is_stored(root, one)
            wait.unlink()
            assert got + b"".join(pieces) == content(one)
        assert is_stored(root, one)
    finally:
        wait.unlink(missing_ok=True)


def test_what_cannot_be_fetched_says_why(upstream, root, server, one):
    assert server.get(f"{API}/{name(99)}/download").status == 409
    assert server.get(f"{API}/nobody/download").status == 404
    assert server.get(f"{API}/{name(one)}/download?format=nonsense").status == 409
    for path, status in (
        ("/fetch/nobody/onnx", 403),
        ("/fetch/a/b/c", 404),
        ("/fetch/%zz/onnx", 400),
        ("/fetch/%00/onnx", 400),
        (f"/fetch/{name(one)}/nonsense", 403),
        (f"/fetch/{make_document(one)['id']}/onnx", 403),
        ("/fetch/", 404),
    ):
        answer = server.get(path)
        assert (answer.status, bool(answer.json["detail"])) == (status, True), path
    url = server.download_url(name(one))
    assert server.request("POST", url.removeprefix(server.url)).status == 405
    assert server.get(url[:-1] + ("A" if url[-1] != "A" else "B")).status == 403
    assert upstream.requests.storage == 0


def signed_elsewhere(server: Serving, path: str) -> str:
    """An address that this server's own key would sign."""
    query = Signer(Secret(SIGNING_KEY), 3600).query(path, time.time())
    return f"{server.url}{path}?{query}"


def test_an_address_is_checked_as_its_download_was_and_the_upstream_is_not_asked(upstream, tmp_path, one):
    key = tmp_path / "signing.key"
    key.write_text(SIGNING_KEY)
    root = tmp_path / "root"
    list_only(upstream, root)
    env = environment(upstream, root) | {"MIRROR_SERVE_SIGNING_KEY_FILE": str(key)}
    with Serving(root, "--fetch", env=env) as server:
        for model_id, weights_format, status in (
            ("nobody", "onnx", 404),
            (make_document(one)["id"], "aaa", 409),
            (make_document(99)["id"], "onnx", 409),
        ):
            answer = take(signed_elsewhere(server, f"/fetch/{model_id}/{weights_format}"))
            assert (answer.status_code, bool(answer.json()["detail"])) == (status, True), weights_format
        assert not upstream.requests.entries


def test_models_that_wait_are_of_bounded_number(upstream, root, one):
    other = next(NUMBERS)
    few = "import registry_mirror.server.fetch as f; f._MOST_AT_ONCE = 1"
    with fetching(upstream, root, few) as server, held(upstream, one, SIZE // 2) as gate, ThreadPoolExecutor(2) as pool:
        urls = [server.download_url(name(number)) for number in (one, other)]
        first = pool.submit(take, urls[0])
        gate.wait_reached()
        second = pool.submit(take, urls[0])
        refused = take(urls[1])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        gate.release.set()
        assert first.result().content == second.result().content == content(one)
        wait_for(lambda: take(urls[1]).content == content(other))


def test_a_model_that_stops_being_ready_on_the_way_is_a_conflict(upstream, server, one):
    url = server.download_url(name(one))
    upstream.set_status(make_document(one)["id"], "training")
    answer = take(url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert "training" in answer.json()["detail"]


def test_an_upstream_that_is_down_is_502_in_words_without_its_secrets(upstream, server, one):
    url = server.download_url(name(one))
    for fault in (error(500, "secret-in-a-message"), HangUp(), error(403), error(404)):
        upstream.inject(fault, kind="weights", times=None)
        answer = take(url)
        assert (answer.status_code, answer.headers["content-type"]) == (502, "application/json")
        assert answer.json()["error"]["code"] == "bad_gateway"
        assert "could not be fetched" in answer.json()["detail"]
        assert upstream.api_key not in answer.text
        upstream.heal()
    assert take(url).content == content(one)
    assert upstream.api_key not in server.text


@pytest.mark.parametrize(
    "fault",
    [
        "OSError(30, 'Read-only file system', '/secret/place')",
        "StoreError('the root /secret/place has layout 99')",
        "CatalogError('/secret/place/catalog.sqlite is damaged')",
        "ConfigurationError('the root /secret/place is not a folder')",
    ],
)
def test_what_is_wrong_on_this_machine_is_for_its_log_alone(upstream, root, one, fault):
    broken = f"""
import registry_mirror.sync.single as single
from registry_mirror.errors import *
def open_sync(*_args, **_more):
    raise {fault}
single.open_sync = open_sync
"""
    with fetching(upstream, root, broken) as server:
        answer = take(server.download_url(name(one)))
        assert (answer.status_code, "secret" in answer.text) == (503, False)
        wait_for(lambda: "/secret/place" in server.text)
        assert "Traceback" not in server.text


def test_a_cut_at_the_upstream_goes_on_and_every_client_gets_the_whole(upstream, server, one):
    url, gate, before = server.download_url(name(one)), Gate(), upstream.requests.storage
    upstream.inject(CutAfter(SIZE * 3 // 4), Hold(gate, SIZE * 2 // 3), kind="weights", times=1)
    with ThreadPoolExecutor(8) as clients:
        waiting = [clients.submit(take, url) for _ in range(8)]
        gate.wait_reached()
        wait_for(lambda: len([fd for fd in server.descriptors() if ".part" in fd]) >= 9)  # the writer's and theirs
        gate.release.set()
        assert all(each.result().content == content(one) for each in waiting)
    assert upstream.requests.storage == before + 2


def test_when_it_goes_wrong_after_bytes_went_out_every_connection_breaks(upstream, root, server, one):
    url = server.download_url(name(one))
    gate = Gate()
    upstream.inject(wrong_digest(), Hold(gate, SIZE * 2 // 3), kind="weights", times=1)
    upstream.inject(wrong_digest(), kind="weights", times=20)

    def client() -> str:
        try:
            return f"whole: {take(url).status_code}"
        except BROKEN:
            return "broken"

    with ThreadPoolExecutor(8) as clients:
        waiting = [clients.submit(client) for _ in range(8)]
        gate.wait_reached()
        wait_for(lambda: len([fd for fd in server.descriptors() if ".part" in fd]) >= 9)  # the writer's and theirs
        gate.release.set()
        assert {each.result() for each in waiting} == {"broken"}
    assert not is_stored(root, one)
    wait_for(lambda: files_under(root / "incoming") == [])
    wait_for(lambda: not [fd for fd in server.descriptors() if ".part" in fd])
    assert "broke off" in server.text
    upstream.heal()
    assert take(url).content == content(one)


def test_a_second_attempt_holds_nobody_else_up(upstream, server, one):
    """While the upstream is asked again, who had the first attempt's bytes is let go and others are answered."""
    url, first = server.download_url(name(one)), Gate()
    upstream.inject(wrong_digest(), Hold(first, SIZE * 2 // 3), kind="weights", times=1)
    with held(upstream, one, SIZE // 2) as gate:
        with ThreadPoolExecutor(1) as clients:
            broken = clients.submit(take, url)
            first.wait_reached()
            wait_for(lambda: len([fd for fd in server.descriptors() if ".part" in fd]) >= 2)  # the writer's and its own
            first.release.set()
            with pytest.raises(BROKEN):
                broken.result()
        gate.wait_reached()
        for _ in range(20):
            assert server.get("/healthz").status == 200
        with ThreadPoolExecutor(1) as clients:
            waiting = clients.submit(take, url)
            wait_for(lambda: [fd for fd in server.descriptors() if ".part" in fd])
            gate.release.set()
            assert waiting.result().content == content(one)


def test_a_client_that_vanishes_does_not_end_the_fetch(upstream, root, server, one):
    with held(upstream, one, SIZE // 2) as gate:
        with httpx.stream("GET", server.download_url(name(one)), timeout=30, trust_env=False) as answer:
            next(answer.iter_raw())
            gate.wait_reached()
        assert server.get("/healthz").status == 200
    wait_for(lambda: server.get(f"{API}/{name(one)}/download").json["download_url"].startswith(f"{server.url}/blobs"))
    assert is_stored(root, one)
    wait_for(lambda: not [fd for fd in server.descriptors() if ".part" in fd])
    assert upstream.requests.storage == 1


def test_storage_that_names_no_digest_or_no_length_is_streamed_too(upstream, root, server, one):
    other = next(NUMBERS)
    upstream.inject(Chunked(), kind="weights", path=name(one))
    assert take(server.download_url(name(one))).content == content(one)
    upstream.inject(no_digest(), kind="weights", path=name(other))
    assert take(server.download_url(name(other))).content == content(other)
    assert is_stored(root, one)
    assert is_stored(root, other)


def test_without_a_length_a_body_that_is_not_right_is_not_ended_well(upstream, root, server, one):
    gate = Gate()
    upstream.inject(CutAfter(SIZE - (1 << 17)), Chunked(), Hold(gate, SIZE * 2 // 3), kind="weights", path=name(one))
    upstream.inject(error(404), kind="weights", path=name(one), times=None)
    with httpx.stream("GET", server.download_url(name(one)), timeout=30, trust_env=False) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        pieces = answer.iter_raw()
        next(pieces)
        gate.wait_reached()
        gate.release.set()
        with pytest.raises(BROKEN):
            list(pieces)
    assert not is_stored(root, one)


def test_the_end_does_not_wait_for_a_fetch(upstream, root, one):
    with held(upstream, one, SIZE // 2) as gate, ThreadPoolExecutor(1) as clients:
        with fetching(upstream, root) as server:
            waiting = clients.submit(take, server.download_url(name(one)))
            gate.wait_reached()
            began = time.monotonic()
            assert server.stop() == 0
            took = time.monotonic() - began
        # Broken off, or told so when nothing had gone out yet.
        assert isinstance(waiting.exception(), BROKEN) or waiting.result().status_code == 503
    assert took < 6
    assert not is_stored(root, one)


def test_a_full_disk_is_507_and_publishes_nothing(disk):
    with FaultyUpstream(many_models(2, size=SIZE)) as upstream:
        root = disk / "root"
        list_only(upstream, root)
        with fetching(upstream, root) as server:
            url = server.download_url(name(0))
            gate = Gate()
            upstream.inject(Hold(gate, 0), kind="weights")
            gate.release.set()
            try:
                answer = take(url)
                assert (answer.status_code, answer.json()["error"]["message"]) == (507, answer.json()["detail"])
                assert answer.json()["error"]["code"] == "insufficient_storage"
            except BROKEN:  # some of it had gone out already
                pass
            assert not is_stored(root, 0)
            wait_for(lambda: files_under(root / "incoming") == [])
            assert server.get("/readyz").status == 200
        assert "Traceback" not in server.text


def test_several_at_once_and_a_sync_beside(tmp_path):
    root = tmp_path / "root"
    with FaultyUpstream(many_models(3, size=SIZE)) as upstream:
        list_only(upstream, root)
        with fetching(upstream, root) as server, ThreadPoolExecutor(9) as clients:
            urls = [server.download_url(name(number)) for number in range(3)]
            waiting = [(number, clients.submit(take, urls[number])) for number in list(range(3)) * 3]
            assert run_sync(upstream, root).record.outcome == "ok"
            for number, each in waiting:
                assert each.result().content == content(number)
    assert all(is_stored(root, number) for number in range(3))


def test_without_a_key_for_the_upstream_it_does_not_start(tmp_path):
    root = tmp_path / "root"
    Root(root).publish()
    with pytest.raises(AssertionError, match=r"ended with 2(.|\n)*PICTOGRAPH_API_KEY"):
        Serving(root, "--fetch", env={"HOME": str(root)})


def test_a_plain_server_fetches_nothing(upstream, root, one):
    with Serving(root, env=environment(upstream, root)) as server:
        assert server.get(f"{API}/{name(one)}/download").status == 409
        assert server.get("/fetch/x/onnx").status == 404
    assert upstream.requests.storage == 0


# -- failing and hanging fetches --------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path):
    """A registry, and a root that knows its models and has no weights."""
    with FaultyUpstream(many_models(40, size=1000)) as upstream:
        list_only(upstream, tmp_path / "root")
        yield upstream, tmp_path / "root"


def test_a_failure_is_remembered_for_some_seconds_and_told_to_whoever_asks(fresh):
    upstream, root = fresh
    soon = "import registry_mirror.server.fetch as f; f._REMEMBERED = 2.0"
    with fetching(upstream, root, soon) as server:
        urls = [server.download_url(name(number)) for number in range(2)]
        upstream.inject(error(404), kind="weights", times=None)
        first = take(urls[0])
        upstream.heal()
        asked = len(upstream.requests.entries)
        with ThreadPoolExecutor(10) as clients:
            answers = list(clients.map(take, urls[:1] * 30))
        assert {each.status_code for each in answers} == {first.status_code}
        assert {each.json()["detail"] for each in answers} == {first.json()["detail"]}
        assert {each.headers["Retry-After"] for each in answers} <= {"1", "2"}
        assert len(upstream.requests.entries) == asked
        assert take(urls[1]).status_code == 200  # another model's
        wait_for(lambda: take(urls[0]).status_code == 200, 10)


def test_weights_that_a_sync_brings_are_given_out_while_a_failure_is_fresh(fresh):
    upstream, root = fresh
    with fetching(upstream, root) as server:
        url = server.download_url(name(1))
        upstream.inject(error(404), kind="weights", times=None)
        assert take(url).status_code != 200
        upstream.heal()
        assert mirror("sync", env=environment(upstream, root)).returncode == 0
        assert take(url).content == weights_bytes(1, 1000)


def test_models_that_hang_hold_up_no_others(fresh):
    upstream, root = fresh
    gate = Gate()
    quick = "import registry_mirror.server.fetch as f; f._STALLS_AFTER = 0.3; f._LOOK_EVERY = 0.1"
    with fetching(upstream, root, quick) as server, ThreadPoolExecutor(21) as clients:
        urls = [server.download_url(name(number)) for number in range(22)]
        for number in range(20):
            upstream.inject(Hold(gate), kind="weights", path=name(number), times=None)
        waiting = [clients.submit(take, url) for url in urls[:20]]
        try:
            gate.wait_reached()
            began = time.monotonic()
            assert take(urls[20]).status_code == 200
            assert take(urls[21]).status_code == 200
            assert time.monotonic() - began < 8
        finally:
            gate.release.set()
        assert {each.result().status_code for each in waiting} == {200}


def test_one_client_key_cannot_take_all_the_places(fresh):
    upstream, root = fresh
    keys = [new_key(root, each) for each in ("greedy", "modest")]
    gate = Gate()
    with fetching(upstream, root) as server, ThreadPoolExecutor(40) as clients:
        urls = [[server.download_url(name(number), headers=key) for number in range(40)] for key in keys]
        upstream.inject(Hold(gate), kind="weights", times=None)
        waiting = [clients.submit(take, url) for url in urls[0][:35]]
        try:
            wait_for(lambda: sum(each.done() for each in waiting) == 10)  # refused: its share is 25
            refused = [each.result() for each in waiting if each.done()]
            assert {(each.status_code, each.headers["Retry-After"]) for each in refused} == {(503, "10")}
            modest = clients.submit(take, urls[1][39])
            time.sleep(0.3)
            assert not modest.done()  # it has a place, and waits for the storage
        finally:
            gate.release.set()
        assert modest.result().status_code == 200


def test_a_machine_has_one_share_of_all_its_ipv6_addresses(fresh):
    """Without keys an address has a share, and a machine takes as many addresses as it likes from its /64."""
    upstream, root = fresh
    gate = Gate()
    env = {**environment(upstream, root), "MIRROR_SERVE_TRUSTED_PROXIES": "127.0.0.1/32"}
    with Serving(root, "--fetch", env=env) as server, ThreadPoolExecutor(40) as clients:
        urls = [server.download_url(name(number)) for number in range(36)]
        upstream.inject(Hold(gate), kind="weights", times=None)

        def take_from(address: str, url: str) -> httpx.Response:
            return httpx.get(url, timeout=30, trust_env=False, headers={"X-Forwarded-For": address})

        waiting = [clients.submit(take_from, f"2001:db8::{number:x}", urls[number]) for number in range(35)]
        try:
            wait_for(lambda: sum(each.done() for each in waiting) == 10)  # refused: its share is 25
            assert {each.result().status_code for each in waiting if each.done()} == {503}
            other = clients.submit(take_from, "2001:db8:0:1::1", urls[35])
        finally:
            gate.release.set()
        assert other.result().status_code == 200
