"""The demo upstream speaks the protocol, and its faulty twin fails as scripted. Real HTTP throughout."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import onnxruntime
import pytest
from support.upstream import (
    Chunked,
    CutAfter,
    Do,
    Edit,
    FaultyUpstream,
    FlipByte,
    Gate,
    Gzipped,
    HangUp,
    Headers,
    Hold,
    Truncate,
    UntilClose,
    empty,
    error,
    etag_only,
    html,
    json_body,
    make_document,
    make_model,
    many_models,
    no_digest,
    redirect,
    unrelated_etag,
    weights_bytes,
    wrong_digest,
)

from registry_mirror.demo import DemoModel, DemoUpstream, DemoWeights, SyntheticBytes, demo_models
from registry_mirror.demo.storage import byte_range

LIST = "/api/v1/developer/models/"
HERE = Path(__file__).parents[1]
md5 = functools.partial(hashlib.md5, usedforsecurity=False)


@pytest.fixture
def upstream():
    with FaultyUpstream(many_models(5)) as running:
        yield running


@pytest.fixture
def client(upstream):
    with client_of(upstream) as connected:
        yield connected


def client_of(upstream, **headers):
    return httpx.Client(
        base_url=upstream.base_url, headers={"X-API-Key": upstream.api_key, **headers}, timeout=10, trust_env=False
    )


def one(key: str) -> str:
    return LIST + quote(key, safe="")


def ids(response: httpx.Response, key: str = "data") -> list[str]:
    return [row["id"] for row in response.json()[key]]


def signed_url(client: httpx.Client, key: str, **query: str) -> str:
    response = client.get(f"{one(key)}/download", params=query)
    assert response.status_code == 200, response.text
    return response.json()["data"]["download_url"]


def fetch(client: httpx.Client, key: str = "model-00001", method: str = "GET", **headers: str) -> httpx.Response:
    return httpx.request(method, signed_url(client, key), headers=headers, timeout=10, trust_env=False)


# --- the models API ----------------------------------------------------------------------------------------------


def test_a_list_answers_rows_in_both_envelopes_with_pagination(upstream, client):
    answer = client.get(LIST, params={"limit": 2, "offset": 1})
    body = answer.json()
    assert body["models"] == body["data"] == [make_document(1), make_document(2)]
    assert body["pagination"] == {"limit": 2, "offset": 1, "total": 5, "has_more": True}
    assert answer.headers["X-Request-Id"]
    assert client.get(LIST, params={"limit": 2, "offset": 3}).json()["pagination"]["has_more"] is False
    assert client.get(LIST, params={"offset": 9}).json()["data"] == []


def test_a_list_is_of_fifty_unless_asked_otherwise():
    with DemoUpstream(many_models(60)) as upstream, client_of(upstream) as client:
        assert len(ids(client.get(LIST))) == 50


@pytest.mark.parametrize("query", [{"limit": 101}, {"limit": 0}, {"limit": "x"}, {"offset": -1}, {"limit": "²"}])
def test_an_unusable_limit_or_offset_is_a_422_that_every_sdk_can_read(client, query):
    answer = client.get(LIST, params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"] == answer.json()["error"]["details"]["errors"]
    assert answer.json()["detail"][0]["loc"] == ["query", next(iter(query))]


def test_the_page_cap_can_be_set():
    with DemoUpstream(many_models(5), page_cap=3) as upstream, client_of(upstream) as client:
        assert client.get(LIST, params={"limit": 3}).status_code == 200
        assert client.get(LIST, params={"limit": 4}).status_code == 422


def test_a_name_filter_is_exact_and_case_sensitive(client):
    assert ids(client.get(LIST, params={"name": "model-00002"})) == [make_document(2)["id"]]
    assert ids(client.get(LIST, params={"name": "Model-00002"})) == []
    assert ids(client.get(LIST, params={"name": "model-0000"})) == []


def test_lists_filter_by_status_and_type_and_hide_archived_models(upstream, client):
    everyone = [model.id for model in upstream.models]
    upstream.archive(everyone[0])
    upstream.set_status(everyone[1], "failed")
    upstream.update(everyone[2], model_type="classification")
    assert ids(client.get(LIST)) == everyone[1:]
    assert ids(client.get(LIST, params={"status": "archived"})) == everyone[:1]
    assert ids(client.get(LIST, params={"status": "failed"})) == everyone[1:2]
    assert ids(client.get(LIST, params={"model_type": "classification"})) == everyone[2:3]
    assert client.get(one(everyone[0])).json()["data"]["status"] == "archived"


def test_an_unknown_query_parameter_is_no_error(client):
    assert client.get(LIST, params={"colour": "red"}).status_code == 200
    assert signed_url(client, "model-00000", colour="red")


def test_one_model_is_found_by_id_and_by_exact_name(client):
    document = make_document(3)
    for key in (document["id"], document["name"]):
        body = client.get(one(key)).json()
        assert body["model"] == body["data"] == document
    assert client.get(one("MODEL-00003")).status_code == 404


@pytest.mark.parametrize(
    "name", ["a/b", "100%", "%2F", "🦖 dino", "..", "a?b#c+d", "by-name", "download", "", " ", "Ä"]
)
def test_odd_names_survive_the_path(upstream, client, name):
    upstream.add(make_model(77, name=name))
    assert ids(client.get(LIST, params={"name": name})) == [make_document(77)["id"]]
    assert fetch(client, make_document(77)["id"]).content == weights_bytes(77)
    if name not in {"", ".."}:  # a client turns these into other paths before anything is sent
        assert client.get(one(name)).json()["data"]["name"] == name
        assert fetch(client, name).content == weights_bytes(77)


def test_a_slash_in_the_raw_path_separates_and_an_encoded_one_does_not(upstream, client):
    upstream.add(make_model(77, name="model-00001/download"))
    assert client.get(LIST + "model-00001%2Fdownload").json()["data"]["name"] == "model-00001/download"
    assert "download_url" in client.get(LIST + "model-00001/download").json()


def test_a_live_model_wins_over_an_archived_one_of_the_same_name(upstream, client):
    upstream.add(make_model(90, name="twin"))
    upstream.add(make_model(91, name="twin"))
    assert client.get(one("twin")).json()["data"]["id"] == make_document(91)["id"]
    upstream.archive(make_document(91)["id"])
    assert client.get(one("twin")).json()["data"]["id"] == make_document(90)["id"]


@pytest.mark.parametrize("key", [None, "wrong", "Pk_live_demo"])
def test_a_wrong_or_missing_key_is_a_401(upstream, key):
    headers = {} if key is None else {"X-API-Key": key}
    for path in (LIST, one("model-00001"), "/elsewhere"):
        assert httpx.get(upstream.base_url + path, headers=headers, trust_env=False).status_code == 401


@pytest.mark.parametrize("tail", ["", "/download", "/versions", "/files"])
def test_an_unknown_model_is_a_404_in_both_forms(client, tail):
    answer = client.get(one("nobody") + tail)
    assert answer.status_code == 404
    assert answer.json()["detail"] == answer.json()["error"]["message"] == "No model named 'nobody'."
    assert answer.json()["error"]["code"] == "not_found"


def test_unknown_paths_and_methods_are_refused(client):
    assert client.get("/api/v1/developer/images/").status_code == 404
    assert client.get(one("model-00001") + "/weights").status_code == 404
    assert client.post(LIST, json={}).status_code == 405
    assert client.patch(one("model-00001"), json={"name": "x"}).status_code == 405
    assert client.get(LIST).status_code == 200  # the bodies were read: the connection goes on


def test_a_list_without_its_slash_is_redirected_as_the_real_api_does(client):
    assert (answer := client.get(LIST.rstrip("/"))).status_code == 307
    assert answer.headers["Location"] == LIST


def test_by_name_paths_exist_only_when_switched_on(client):
    assert client.get(LIST + "by-name/model-00001").status_code == 404
    with DemoUpstream(many_models(2), by_name=True) as upstream, client_of(upstream) as old:
        assert old.get(LIST + "by-name/model-00001").json()["data"]["name"] == "model-00001"
        assert "download_url" in old.get(LIST + "by-name/model-00001/download").json()


@pytest.mark.parametrize(("envelope", "present", "absent"), [("models", "model", "data"), ("data", "data", "model")])
def test_one_envelope_alone_can_be_chosen(envelope, present, absent):
    with DemoUpstream(many_models(1), envelope=envelope) as upstream, client_of(upstream) as client:
        body = client.get(one("model-00000")).json()
        assert present in body
        assert absent not in body
        assert (envelope in client.get(LIST).json(), len(client.get(LIST).json())) == (True, 3)
        assert ("download_url" in client.get(one("model-00000") + "/download").json()) is (envelope == "models")


def test_rows_can_be_bare_and_lists_without_pagination():
    with DemoUpstream(many_models(1), list_rows="bare", pagination=False) as upstream, client_of(upstream) as client:
        body = client.get(LIST).json()
        assert "pagination" not in body
        assert not {"metrics", "class_mapping"} & body["data"][0].keys()
        assert client.get(one("model-00000")).json()["data"] == make_document(0)


@pytest.mark.parametrize("status", ["training", "failed", "archived"])
@pytest.mark.parametrize("refusal", [400, 409])
def test_only_ready_models_are_downloaded(status, refusal):
    models = [make_model(0, data=b"x", status=status)]
    with DemoUpstream(models, not_ready_status=refusal) as upstream, client_of(upstream) as client:
        assert client.get(one("model-00000") + "/download").status_code == refusal


def test_missing_exports_are_conflicts_and_missing_weights_are_not_found(upstream, client):
    assert client.get(one("model-00001") + "/download?format=pytorch").status_code == 409
    assert client.get(one("model-00001") + "/download?format=onnx&precision=fp16").status_code == 409
    assert client.get(one("model-00001") + "/download?format=onnx&precision=fp32").status_code == 200
    upstream.add(DemoModel(make_document(8)))
    assert client.get(one("model-00008") + "/download").status_code == 404


def test_versions_and_files_describe_the_weights_and_lead_to_them(upstream, client):
    key = make_document(1)["id"]
    upstream.replace_weights(key, b"torch", wire_format="safetensors")
    versions = client.get(one(key) + "/versions").json()["data"]
    assert [version["version_id"] for version in versions["versions"]] == [key] == [versions["current_version_id"]]
    files = client.get(one(key) + "/files").json()["data"]["files"]
    assert [(file["format"], file["name"], file["size_bytes"]) for file in files] == [
        ("onnx", "model-00001.onnx", 256),
        ("safetensors", "model-00001.safetensors", 5),
    ]
    for name in ("model-00001.safetensors", "model.safetensors"):
        answer = client.get(one(key) + "/files/download", params={"version_id": key, "name": name})
        assert httpx.get(answer.json()["data"]["download_url"], trust_env=False).content == b"torch"
    for query in ({"version_id": key, "name": "x"}, {"version_id": "x", "name": "model-00001.onnx"}):
        assert client.get(one(key) + "/files/download", params=query).status_code == 404


def test_delete_archives_and_its_hard_form_removes(upstream, client):
    before = upstream.models[1].document["updated_at"]
    assert client.delete(one("model-00001")).json()["data"]["deleted"] is True
    assert client.get(one("model-00001")).json()["data"]["status"] == "archived"
    assert client.get(one("model-00001")).json()["data"]["updated_at"] > before
    with DemoUpstream(many_models(1), hard_delete=True) as other, client_of(other) as hard:
        assert hard.delete(one("model-00000")).status_code == 200
        assert hard.delete(one("model-00000")).status_code == 404


def test_changes_show_at_once_and_move_updated_at_on(upstream, client):
    key = upstream.models[0].id
    times = [upstream.update(key, description=str(i)).document["updated_at"] for i in range(50)]
    assert times == sorted(set(times))
    assert client.get(one(key)).json()["data"]["description"] == "49"
    assert upstream.update(key, updated_at="as given").document["updated_at"] == "as given"
    upstream.remove(key)
    assert client.get(one(key)).status_code == 404
    assert key not in ids(client.get(LIST))
    with pytest.raises(KeyError):
        upstream.remove(key)


def test_the_organisation_is_filled_in_where_a_document_names_none():
    document = make_document(0)
    del document["organization_id"]
    upstream = DemoUpstream([DemoModel(document), make_model(1)], organization_id="other")
    assert [model.document["organization_id"] for model in upstream.models] == [
        "other",
        make_document(1)["organization_id"],
    ]


# --- the storage -------------------------------------------------------------------------------------------------


def test_weights_come_whole_with_their_md5_from_another_origin(upstream, client):
    answer = fetch(client)
    digest = md5(weights_bytes(1)).digest()
    assert (answer.status_code, answer.content) == (200, weights_bytes(1))
    assert answer.headers["Content-Length"] == "256"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-MD5"] == base64.b64encode(digest).decode()
    assert answer.headers["x-goog-hash"] == "md5=" + base64.b64encode(digest).decode()
    assert answer.headers["ETag"] == f'"{digest.hex()}"'
    assert answer.url.port != httpx.URL(upstream.base_url).port


def test_storage_needs_no_key_and_the_log_shows_what_each_origin_was_told(upstream, client):
    client.get(LIST)
    fetch(client)
    log = upstream.requests
    assert (log.api, log.storage) == (2, 1)
    assert log.log[0] == ("api", "GET", LIST)
    assert log.log[1] == ("api", "GET", LIST + "model-00001/download")
    assert log.log[2][2].startswith("/weights/")
    assert log.entries[0].headers["x-api-key"] == upstream.api_key
    assert not any("x-api-key" in entry.headers for entry in log.entries if entry.origin == "storage")
    log.clear()
    assert (log.api, log.storage, log.log) == (0, 0, [])


def test_a_signed_url_is_good_for_many_gets_and_only_for_its_own_object(upstream, client):
    first, second = signed_url(client, "model-00001"), signed_url(client, "model-00002")
    assert first != signed_url(client, "model-00001")
    with httpx.Client(trust_env=False) as storage:
        assert [storage.get(first).status_code for _ in range(3)] == [200, 200, 200]
        assert storage.get(first.partition("?")[0]).status_code == 403
        assert storage.get(first.partition("?")[0] + "?" + second.partition("?")[2]).status_code == 403
        assert storage.get(upstream.storage_url + "/").status_code == 403
        assert storage.put(first, content=b"x").status_code == 405


def test_an_expired_url_is_refused():
    with DemoUpstream(many_models(1), url_ttl=0) as upstream, client_of(upstream) as client:
        assert fetch(client, "model-00000").status_code == 403


def test_a_url_gives_the_bytes_of_the_moment_it_was_signed(upstream, client):
    key = upstream.models[1].id
    before = signed_url(client, key)
    upstream.replace_weights(key, b"new", version="2.0.0")
    assert httpx.get(before, trust_env=False).content == weights_bytes(1)
    assert fetch(client, key).content == b"new"
    assert client.get(one(key)).json()["data"]["version"] == "2.0.0"


def test_head_tells_the_size_and_sends_nothing(client):
    answer = fetch(client, method="HEAD")
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "256", b"")


@pytest.fixture(params=["bytes", "file", "synthetic"])
def large(request, upstream, tmp_path):
    """Three million bytes in each of the three forms that weights have."""
    data = b"".join(SyntheticBytes(3_000_001).chunks(0, 3_000_001))
    (tmp_path / "weights").write_bytes(data)
    forms = {"bytes": data, "file": tmp_path / "weights", "synthetic": SyntheticBytes(3_000_001)}
    upstream.replace_weights(upstream.models[1].id, forms[request.param])
    return data


def test_every_form_of_weights_is_sent_whole_and_in_parts(large, client):
    whole = fetch(client)
    assert whole.content == large
    assert whole.headers["ETag"] == f'"{md5(large).hexdigest()}"'
    for header, span in (
        ("bytes=0-0", slice(0, 1)),
        ("bytes=1048575-1048577", slice(1048575, 1048578)),
        ("bytes=2000000-", slice(2000000, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=5-9999999", slice(5, None)),
    ):
        part = fetch(client, Range=header)
        assert (part.status_code, part.content) == (206, large[span])
        assert "Content-MD5" not in part.headers
        start, stop, _ = span.indices(len(large))
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(large)}"


def test_a_range_beyond_the_end_is_a_416(client):
    answer = fetch(client, Range="bytes=256-")
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */256")


def test_a_range_is_ignored_when_the_object_is_no_longer_the_one_that_was_meant(client):
    etag = fetch(client).headers["ETag"]
    assert fetch(client, **{"Range": "bytes=5-", "If-Range": etag}).status_code == 206
    assert fetch(client, **{"Range": "bytes=5-", "If-Range": '"other"'}).status_code == 200


@pytest.mark.parametrize("header", ["", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "items=0-1", "bytes=a-b"])
def test_what_is_no_single_range_asks_for_everything(header):
    assert byte_range(header, 10) is None


def test_gigabytes_are_promised_without_being_held():
    model = DemoModel(make_document(0), {"onnx": DemoWeights(SyntheticBytes(1 << 28))})
    with DemoUpstream([model]) as upstream, client_of(upstream) as client:
        assert fetch(client, "model-00000", method="HEAD").headers["Content-Length"] == str(1 << 28)
        part = fetch(client, "model-00000", Range=f"bytes={(1 << 28) - 3}-")
    assert part.content == b"".join(SyntheticBytes(1 << 28).chunks((1 << 28) - 3, 1 << 28))


# --- life --------------------------------------------------------------------------------------------------------


def test_stop_refuses_new_connections_and_closes_those_kept_alive(upstream, client):
    storage_url = signed_url(client, "model-00001")
    with httpx.Client(trust_env=False) as storage:
        assert storage.get(storage_url).status_code == 200
        upstream.stop()
        for call in (lambda: client.get(LIST), lambda: storage.get(storage_url)):
            with pytest.raises(httpx.TransportError):  # the kept one may still be found closed rather than refused
                call()
            with pytest.raises(httpx.ConnectError):
                call()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("demo-")]


def test_it_comes_back_on_its_ports_with_its_state(upstream):
    urls = upstream.base_url, upstream.storage_url
    upstream.stop()
    upstream.stop()
    upstream.start()
    assert (upstream.base_url, upstream.storage_url) == urls
    with client_of(upstream) as client:
        assert len(ids(client.get(LIST))) == 5
        assert fetch(client).status_code == 200


def test_a_connection_is_kept_for_many_requests_and_many_clients_are_served_at_once(upstream, client):
    pages = []

    def page():
        with client_of(upstream) as other:
            pages.extend(len(ids(other.get(LIST))) for _ in range(20))

    threads = [threading.Thread(target=page) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == [5] * 160
    assert "connection" not in client.get(LIST).headers


# --- the shipped models --------------------------------------------------------------------------------------------


def test_the_demo_shows_every_status_and_every_document_is_clean():
    documents = [model.document for model in demo_models()]
    assert {document["status"] for document in documents} == {"ready", "training", "failed", "archived"}
    assert len({document["id"] for document in documents}) == len({document["name"] for document in documents}) == 6
    for model in demo_models():
        assert json.loads(model.json) == model.document
        assert model.document["precision"] == "fp32"
        assert ("onnx" in model.weights) is (model.status == "ready")
    assert demo_models("elsewhere")[0].document["organization_id"] == "elsewhere"


@pytest.mark.parametrize(
    ("name", "image", "output", "shape"),
    [
        ("Forklift Finder", "images", "output", [1, 84, 7]),
        ("Pallet Outline", "input", "masks", [1, 1, 64, 64]),
        ("Box Condition", "input", "logits", [1, 3]),
    ],
)
def test_a_shipped_model_is_downloaded_and_runs_in_onnxruntime(name, image, output, shape):
    with DemoUpstream(demo_models()) as upstream, client_of(upstream) as client:
        data = fetch(client, name).content
    assert len(data) < 50_000
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    described = session.get_inputs()[0], session.get_outputs()[0]
    assert [(each.name, each.shape) for each in described] == [(image, [1, 3, 64, 64]), (output, shape)]
    random = np.random.default_rng(1)
    white = 255 if image == "images" else 1
    images = [random.random((1, 3, 64, 64), np.float32) * white, np.full((1, 3, 64, 64), 0.9 * white, np.float32)]
    first, again, other = (session.run(None, {image: each})[0] for each in (images[0], images[0], images[1]))
    assert first.shape == tuple(shape)
    assert np.isfinite(first).all()
    assert first.std() > 0.01
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_the_generator_writes_the_shipped_files_and_the_same_ones_each_time(monkeypatch):
    monkeypatch.syspath_prepend(HERE / "tools")
    monkeypatch.delitem(sys.modules, "build_demo_models", raising=False)
    import build_demo_models

    shipped = {path.name: path.read_bytes() for path in build_demo_models.MODELS.glob("*.onnx")}
    assert shipped == {name: build() for name, build in build_demo_models.BUILDERS.items()}
    assert shipped == {name: build() for name, build in build_demo_models.BUILDERS.items()}


# --- faults ------------------------------------------------------------------------------------------------------


def test_an_injection_is_used_up_and_the_next_one_follows(upstream, client):
    first = upstream.inject(error(503), kind="list", times=2)
    upstream.inject(error(429), kind="list")
    assert [client.get(LIST).status_code for _ in range(4)] == [503, 503, 429, 200]
    assert first.hits == 2


def test_an_injection_hits_only_what_it_names_and_heal_ends_it(upstream, client):
    upstream.inject(error(500), kind="get", path="00002$", times=None)
    upstream.inject(error(500), method="DELETE", times=None)
    upstream.inject(error(500), origin="storage", path="model-00003", times=None)
    calls = {
        "list": lambda: client.get(LIST),
        "get": lambda: client.get(one("model-00002")),
        "other get": lambda: client.get(one("model-00001")),
        "download": lambda: client.get(one("model-00002") + "/download"),
        "delete": lambda: client.delete(one("model-00004")),
        "weights": lambda: fetch(client, "model-00003"),
        "other weights": lambda: fetch(client, "model-00002"),
    }
    assert {name for name, call in calls.items() if call().status_code == 500} == {"get", "delete", "weights"}
    upstream.heal()
    assert {name for name, call in calls.items() if call().status_code != 200} == set()


def test_scripted_answers_carry_status_headers_and_body(upstream, client):
    moment = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
    for fault, expected in (
        (error(429, retry_after=7), (429, "7", "application/json")),
        (error(503, retry_after=moment), (503, "Sun, 01 Mar 2026 08:00:00 GMT", "application/json")),
        (error(402), (402, None, "application/json")),
        (html(), (200, None, "text/html; charset=utf-8")),
        (empty(), (200, None, None)),
        (json_body([1]), (200, None, "application/json")),
    ):
        upstream.inject(fault, kind="list")
        answer = client.get(LIST)
        assert (answer.status_code, answer.headers.get("Retry-After"), answer.headers.get("Content-Type")) == expected
    upstream.inject(redirect("http://127.0.0.1:9/elsewhere"), kind="weights")
    assert (answer := fetch(client)).status_code == 302
    assert answer.headers["Location"] == "http://127.0.0.1:9/elsewhere"


def test_truncated_json_is_a_whole_answer_that_does_not_parse(upstream, client):
    upstream.inject(Truncate(40), kind="list")
    answer = client.get(LIST)
    assert (answer.status_code, len(answer.content), answer.headers["Content-Length"]) == (200, 40, "40")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize("after_work", [False, True])
def test_a_hang_up_gives_no_answer_at_all(upstream, client, after_work):
    upstream.inject(HangUp(after_work=after_work), kind="delete")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.delete(one("model-00001"))
    assert (upstream.models[1].status == "archived") is after_work


@pytest.mark.parametrize("count", [0, 1000, 2_500_000])
def test_a_cut_keeps_the_content_length_and_sends_less(upstream, client, large, count):
    upstream.inject(CutAfter(count), kind="weights")
    pieces: list[bytes] = []
    with httpx.stream("GET", signed_url(client, "model-00001"), trust_env=False) as answer:
        assert answer.headers["Content-Length"] == str(len(large))
        with pytest.raises(httpx.RemoteProtocolError):
            pieces.extend(answer.iter_raw())
    assert b"".join(pieces) == large[:count]
    assert fetch(client).content == large


@pytest.mark.parametrize("at", [0, 2_000_000, -1])
def test_one_flipped_byte_and_nothing_else_changes(upstream, client, large, at):
    upstream.inject(FlipByte(at), kind="weights")
    answer = fetch(client)
    assert [i % len(large) for i in (at,)] == list(
        np.flatnonzero(np.frombuffer(answer.content, np.uint8) != np.frombuffer(large, np.uint8))
    )
    assert answer.headers["ETag"] == f'"{md5(large).hexdigest()}"'


def test_digest_headers_are_absent_wrong_alone_or_unrelated(upstream, client):
    digest = f'"{md5(weights_bytes(1)).hexdigest()}"'
    goog = "md5=" + base64.b64encode(md5(weights_bytes(1)).digest()).decode()
    for fault, expected in (
        (no_digest(), (None, None, None)),
        (
            wrong_digest(),
            ("md5=1B2M2Y8AsgTpgAmY7PhCfg==", "1B2M2Y8AsgTpgAmY7PhCfg==", f'"{md5().hexdigest()}"'),
        ),
        (etag_only(), (None, None, digest)),
        (unrelated_etag(), (None, None, '"0123456789abcdef0123456789abcdef"')),
        (unrelated_etag('"abc-3"'), (None, None, '"abc-3"')),
        (Headers({"etag": None, "content-md5": None}), (goog, None, None)),
    ):
        upstream.inject(fault, kind="weights")
        answer = fetch(client)
        assert answer.content == weights_bytes(1)
        assert [answer.headers.get(name) for name in ("x-goog-hash", "Content-MD5", "ETag")] == list(expected)


def test_framing_without_content_length_arrives_whole(upstream, client, large):
    upstream.inject(Chunked(), kind="weights")
    chunked = fetch(client)
    assert (chunked.content, chunked.headers["Transfer-Encoding"]) == (large, "chunked")
    upstream.inject(UntilClose(), kind="weights")
    until_close = fetch(client)
    assert until_close.content == large
    assert until_close.headers["Connection"] == "close"
    upstream.inject(UntilClose(1_000_000), kind="weights")
    assert fetch(client).content == large[:1_000_000]
    for framed in (chunked, until_close):
        assert "Content-Length" not in framed.headers


def test_a_gzipped_body_is_encoded_and_keeps_the_digest_of_what_it_encodes(upstream, client):
    upstream.inject(Gzipped(), kind="weights")
    with httpx.stream("GET", signed_url(client, "model-00001"), trust_env=False) as answer:
        raw = b"".join(answer.iter_raw())
    assert gzip.decompress(raw) == weights_bytes(1)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Length"] == str(len(raw))
    assert answer.headers["ETag"] == f'"{md5(weights_bytes(1)).hexdigest()}"'


@pytest.mark.parametrize("after", [0, 1000, 2_500_000])
def test_a_gate_holds_a_body_after_so_many_bytes(upstream, client, large, after):
    gate = Gate()
    upstream.inject(Hold(gate, after=after), kind="weights")
    with httpx.stream("GET", signed_url(client, "model-00001"), trust_env=False) as answer:
        chunks = answer.iter_raw()
        received = bytearray()
        while len(received) < after:
            received += next(chunks)
        gate.wait_reached()
        assert bytes(received) == large[:after]
        gate.release.set()
        for chunk in chunks:
            received += chunk
    assert bytes(received) == large


def test_stop_opens_the_gates_and_the_held_client_sees_a_cut(upstream, client):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights")
    with httpx.stream("GET", signed_url(client, "model-00001"), trust_env=False) as answer:
        gate.wait_reached()
        upstream.stop()
        with pytest.raises(httpx.TransportError):
            answer.read()


def test_a_whole_answer_can_be_held(upstream, client):
    gate = Gate()
    upstream.inject(Hold(gate), kind="list")
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(client.get(LIST).status_code))
    thread.start()
    gate.wait_reached()
    assert statuses == []
    gate.release.set()
    thread.join()
    assert statuses == [200]


def test_faults_compose_from_the_inside_out(upstream, client):
    upstream.inject(FlipByte(3), no_digest(), UntilClose(), kind="weights")
    answer = fetch(client)
    assert answer.content[3] == weights_bytes(1)[3] ^ 0xFF
    assert not {"ETag", "Content-Length"} & set(answer.headers)


def test_a_listing_can_be_rewritten_and_the_registry_changed_under_it(upstream, client):
    upstream.inject(Edit(lambda body: {**body, "data": body["data"][::-1]}), kind="list")
    assert ids(client.get(LIST)) == [model.id for model in upstream.models][::-1]
    upstream.inject(Do(lambda: upstream.remove(make_document(0)["id"])), kind="list")
    assert len(ids(client.get(LIST))) == 4


def test_numbered_models_are_all_different():
    models = many_models(300, size=16)
    assert len({model.id for model in models}) == len({model.weights["onnx"].md5 for model in models}) == 300
    assert {model.weights["onnx"].size for model in models} == {16}
    assert make_model(1, status="training").weights == {}
