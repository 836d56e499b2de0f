"""The models resource as clients of every age ask for it."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from support.documents import make_document
from support.roots import GONE, Root
from support.serving import API, Serving, new_key

from registry_mirror.index.reader import IndexReader
from registry_mirror.index.values import Selection
from registry_mirror.server.lookups import Pages

ODD_NAMES = [
    "a/b",
    "a%2Fb",
    "..",
    ".",
    "by-name",
    "bulk-delete",
    "download",
    "versions",
    "a b+c",
    "100%",
    "?#&=;",
    "\N{SAUROPOD} \u00e9",
    "e\u0301",
    "line\nbreak\ttab",
    'quote"back\\slash',
    "<script>alert(1)</script>",
    "N" * 900,
    "00000000-0000-4000-8000-00000000abcd",
    " ",
    "/",
]
MANY = 1020
OLD_SDK, NEW_SDK = {"User-Agent": "pictograph-python/1.8.2"}, {"User-Agent": "pictograph-python/1.69.146"}
MIRROR = {"User-Agent": "registry-mirror/0.1.0"}
NOBODY = "00000000-0000-4000-8000-00000000dead"
PRECISE = "2026-03-02T09:30:00.1250000+00:00"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("serve") / "root")
    rest = {key: make_document(1)[key] for key in ("organization_id", "visibility", "version", "precision")}
    for number, name in enumerate(ODD_NAMES):
        root.add(name, b"odd %d" % number, created=f"2026-02-01T00:00:{number:02d}Z", **rest)
    root.add("precise", b"precise", model_id="precise-id", updated=PRECISE, extra={"n": 1e100, "x": None}, **rest)
    root.add("archived", b"archived", status="archived", **rest)
    root.add("gone", b"gone", gone_at=GONE, **rest)
    root.add("training", None, status="training", **rest)
    root.add("failed now", b"once ready", status="failed", **rest)
    root.add("keypoints", b"kp", model_type="keypoint_detection", **rest)
    root.add("pose", b"pose", model_type="pose", **rest)
    root.add("null precision", b"np", **{**rest, "precision": None, "version": None})
    root.add("twin", b"older", created="2026-01-01T00:00:00Z", **rest)
    root.add("twin", b"newer", created="2026-01-02T00:00:00Z", **rest)
    root.add("Case", b"upper", **rest)
    root.add("case", b"lower", **rest)
    both = (root.blob(b"o"), root.blob(b"s", "safetensors"), root.blob(b"past", version="0", current=False))
    root.add("formats", weights=both, **rest)
    for number in range(MANY):
        root.add(f"bulk-{number}", None, created="2025-01-01T00:00:00Z", status="failed", **rest)
    root.publish(organization_id="org-of-meta")
    return root


@pytest.fixture(scope="module")
def server(root):
    with Serving(root.path, "--without-keys") as running:  # so that it answers to any Host
        yield running
        assert "Traceback" not in running.text


def segment(name: str) -> str:
    return quote(name, safe="")


def entry(root: Root, name: str):
    return next(each for each in root.entries.values() if each.name == name)


def test_what_only_begins_like_an_address_is_none(server):
    for path in (f"{API}x", f"{API}x/y", "/blobs", "/fetch", "/api", "//"):
        answer = server.get(path)
        assert (answer.status, answer.json["detail"]) == (404, "no such address here")


def test_a_page_has_both_envelopes_and_a_true_boolean(server):
    answer = server.get(f"{API}/?limit=3&offset=2")
    body = answer.json
    assert answer.headers["content-type"] == "application/json"
    assert body["models"] == body["data"]
    assert len(body["data"]) == 3
    assert body["pagination"].keys() == {"limit", "offset", "total", "has_more"}
    assert body["pagination"]["has_more"] is True
    assert (body["pagination"]["limit"], body["pagination"]["offset"]) == (3, 2)


def test_pages_join_to_all_of_it_without_a_row_twice(server):
    rows, offset = [], 0
    while True:
        body = server.get(f"{API}/?offset={offset}&limit=100").json
        rows += body["data"]
        offset += len(body["data"])
        if not body["pagination"]["has_more"]:
            break
    total = body["pagination"]["total"]
    assert len(rows) == len({row["id"] for row in rows}) == total > MANY


@pytest.mark.parametrize("limit", [1, 100, 500, 999, 1000])
def test_no_page_is_cut_short_silently(server, limit):
    body = server.get(f"{API}/?limit={limit}").json
    assert len(body["data"]) == limit
    assert body["pagination"]["has_more"] is True


def test_the_default_page_has_fifty(server):
    assert len(server.get(f"{API}/").json["data"]) == 50


def test_a_larger_page_is_refused_where_every_sdk_looks_for_it(server):
    answer = server.get(f"{API}/?limit=1001&offset=-1")
    assert answer.status == 422
    assert answer.json["error"]["code"] == "validation_error"
    assert [each["loc"] for each in answer.json["detail"]] == [["query", "limit"], ["query", "offset"]]
    assert answer.json["detail"] == answer.json["error"]["details"]["errors"]
    assert "limit" in answer.json["error"]["message"]


def test_past_the_end_there_is_an_empty_page(server):
    for offset in (100_000, 1 << 53):
        body = server.get(f"{API}/?offset={offset}").json
        assert body["data"] == body["models"] == []
        assert body["pagination"]["has_more"] is False


def test_exactly_at_the_end_there_is_no_more(server):
    total = server.get(f"{API}/?limit=1").json["pagination"]["total"]
    assert server.get(f"{API}/?limit=10&offset={total - 10}").json["pagination"]["has_more"] is False
    assert server.get(f"{API}/?limit=10&offset={total - 11}").json["pagination"]["has_more"] is True


def listed(server, query: str, headers=None) -> list[str]:
    answer = server.get(f"{API}/?limit=1000&{query}", headers)
    assert answer.status == 200, answer.body
    return [row["name"] for row in answer.json["data"]]


@pytest.mark.parametrize("name", [*ODD_NAMES, "Case", "case"])
def test_the_name_filter_is_exact(server, name):
    assert listed(server, f"name={quote(name, safe='')}") == [name]


@pytest.mark.parametrize("name", ["", "cas", "CASE", "case%20", "%25", "cas_", "*", "nobody"])
def test_a_name_that_nobody_has_lists_nobody(server, name):
    assert listed(server, f"name={name}") == []


def test_names_that_clients_ask_for_are_not_kept(root):
    pages, reader = Pages(), IndexReader(root.layout.index)
    reader.read(lambda snapshot: pages.page(snapshot, "picture", Selection(), 10, 0))
    before = len(pages)
    for number in range(10):
        chosen = Selection(name=f"name {number}")
        assert reader.read(lambda snapshot: pages.page(snapshot, "picture", chosen, 10, 0)).total == 0  # noqa: B023
    assert (before > 0, len(pages)) == (True, before)
    reader.close()


def test_filters_add_up(server):
    assert listed(server, "name=precise&status=ready&model_type=object_detection") == ["precise"]
    assert listed(server, "name=precise&status=training") == []
    assert listed(server, "status=training") == ["training"]
    assert listed(server, "model_type=keypoint_detection") == ["keypoints"]
    assert listed(server, "model_type=pose") == ["pose"]
    assert server.get(f"{API}/?model_type=unheard_of").status == 422
    assert server.get(f"{API}/?dataset_name=x").status == 422


def test_archived_models_show_when_asked_for_and_gone_ones_by_name_only(server, root):
    names = listed(server, "status=archived")
    assert names == ["archived"]
    assert not {"archived", "gone"} & set(listed(server, ""))
    for name in ("archived", "gone"):
        assert listed(server, f"name={name}", OLD_SDK) == listed(server, f"name={name}") == [name]
        assert listed(server, f"name={name}", MIRROR) == listed(server, f"name={name}&status=ready") == []
    for name in ("archived", "gone"):
        for address in (entry(root, name).id, name, f"by-name/{name}"):
            assert server.get(f"{API}/{address}").json["data"]["name"] == name
        assert server.get(server.download_url(name)).status == 200
    assert server.get(f"{API}/gone", MIRROR).status == 404


def test_of_one_name_the_live_model_comes_before_archived_and_gone_ones(tmp_path):
    root = Root(tmp_path / "root")
    root.add("x", b"gone", created="2026-03-03T00:00:00Z", gone_at=GONE)
    root.add("x", b"archived", created="2026-03-02T00:00:00Z", status="archived")
    live = root.add("x", b"live", created="2026-03-01T00:00:00Z", status="failed")
    root.publish()
    with Serving(root.path) as server:
        rows = server.get(f"{API}/?name=x&limit=1", OLD_SDK).json
        assert ([row["id"] for row in rows["models"]], rows["pagination"]["total"]) == ([live.id], 3)


def test_each_sdk_sees_the_types_that_it_knows(server):
    assert listed(server, "name=keypoints", OLD_SDK) == listed(server, "name=pose", NEW_SDK) == []
    assert listed(server, "name=keypoints", NEW_SDK) == listed(server, "name=keypoints", MIRROR) == ["keypoints"]
    total = server.get(f"{API}/?limit=1", OLD_SDK).json["pagination"]["total"]
    assert server.get(f"{API}/?limit=1").json["pagination"]["total"] == total + 2


def test_null_precision_and_version_are_absent_except_for_a_mirror(server, root):
    for path in ("null%20precision", f"by-name/{segment('null precision')}"):
        assert not {"precision", "version"} & server.get(f"{API}/{path}", NEW_SDK).json["data"].keys()
    row = server.get(f"{API}/?name=null+precision", NEW_SDK).json["data"][0]
    assert not {"precision", "version"} & row.keys()
    assert entry(root, "null precision").document.encode() in server.get(f"{API}/null%20precision", MIRROR).body


@pytest.mark.parametrize("agent", [NEW_SDK, OLD_SDK, MIRROR, {}])
def test_a_document_is_passed_on_to_the_byte(server, root, agent):
    text = entry(root, "precise").document
    assert PRECISE in text
    for path in ("precise", "by-name/precise", "precise-id", "?name=precise"):
        assert server.get(f"{API}/{path}", agent).body.count(text.encode()) == 2


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("agent", [NEW_SDK, {}])
def test_every_name_is_an_address(server, root, name, agent):
    wanted = entry(root, name)
    # `/by-name/download` is a model called "download": one called "by-name" is downloaded by its id.
    plain = [segment(name)] if name != "by-name" else []
    for path in (*plain, f"by-name/{segment(name)}", wanted.id):
        body = server.get(f"{API}/{path}", agent).json
        assert body["data"] == body["model"]
        assert body["data"]["id"] == wanted.id
        url = server.download_url(path, "?format=onnx", agent)
        assert server.get(url).body == b"odd %d" % ODD_NAMES.index(name)
        for part in ("versions", "files"):
            assert server.get(f"{API}/{path}/{part}", agent).json["data"]["versions"][0]["version_id"] == wanted.id


def test_an_id_comes_before_a_name_except_by_name(server, root):
    wanted = entry(root, "case")
    root.add(wanted.id, b"named like an id")
    root.publish(organization_id="org-of-meta")
    assert server.get(f"{API}/{wanted.id}").json["data"]["name"] == "case"
    assert server.get(f"{API}/by-name/{wanted.id}").json["data"]["name"] == wanted.id


def test_names_are_case_sensitive_and_the_newest_of_twins_is_meant(server):
    assert server.get(server.download_url("Case")).body == b"upper"
    assert server.get(server.download_url("case")).body == b"lower"
    assert server.get(server.download_url("twin")).body == b"newer"


@pytest.mark.parametrize(
    "path", ["nobody", "by-name/nobody", NOBODY, "nobody/download", "nobody/versions", "nobody/files", "CASE"]
)
def test_an_unknown_model_is_404_in_words(server, path):
    answer = server.get(f"{API}/{path}")
    assert answer.status == 404
    assert answer.json["error"]["code"] == "not_found"
    assert answer.json["detail"] == answer.json["error"]["message"]
    assert "no model" in answer.json["detail"]


@pytest.mark.parametrize("path", ["/", "/x", "/api", "/api/v1/developer", "/api/v2/x", "//", "/blobs", "/fetch/a/onnx"])
def test_what_is_not_here_is_404_in_json(server, path):
    if path != "/":
        answer = server.get(path)
        assert answer.status == 404
        assert answer.json["detail"]


def test_the_list_has_a_slash_and_nothing_is_redirected(server):
    assert server.get(API).status == 404
    assert "list of models" in server.get(API).json["detail"]
    for path in (API, f"{API}/precise/", f"{API}/precise/download/", "/healthz/", "/blobs/", f"/{API}/", "/."):
        assert server.get(path).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/bulk-delete"),
        ("POST", "/precise/predict"),
        ("POST", "/precise/fork"),
        ("POST", "/org/precise/fork"),
        ("PATCH", "/precise"),
        ("PATCH", "/precise/current-version"),
        ("DELETE", "/precise"),
        ("DELETE", "/by-name/precise"),
        ("PUT", "/"),
        ("POST", "/"),
    ],
)
def test_a_write_is_501_so_that_no_sdk_tries_again(server, method, path):
    answer = server.request(method, API + path, body=b'{"x": 1}')
    assert answer.status == 501
    assert answer.json["error"]["code"] == "not_implemented"
    assert "read-only" in answer.json["detail"]


def test_weights_once_cached_are_given_whatever_the_status(server):
    assert server.get(server.download_url("failed%20now")).body == b"once ready"


def test_weights_that_are_not_here_are_409_with_what_to_do(server):
    answer = server.get(f"{API}/training/download")
    assert answer.status == 409
    assert "training" in answer.json["detail"]
    for query in ("format=pytorch", "format=nonsense", "format=onnx&precision=fp16", "format=onnx&target=sm75"):
        assert server.get(f"{API}/precise/download?{query}").status == 409


def test_a_download_has_every_form(server):
    body = server.get(f"{API}/precise/download").json
    assert {"md5", "sha256", "size_bytes", "filename", "model_name"} <= body["data"].keys()
    assert body["download_url"] == body["data"]["download_url"]
    assert body["download_url"].startswith(server.url + "/blobs/")
    for query in ("?format=onnx", "?format=", "?format=onnx&precision=fp32&target=portable", "?unknown=1"):
        assert server.get(server.download_url("precise", query)).body == b"precise"
    assert server.get(server.download_url("formats", "?format=safetensors")).body == b"s"


def test_versions_and_files_are_what_newer_sdks_read(server, root):
    formats = entry(root, "formats")
    versions = server.get(f"{API}/formats/versions").json["data"]
    assert versions["current_version_id"] == versions["latest_version_id"] == formats.id
    assert versions["versions"][0]["is_latest"] is True
    files = server.get(f"{API}/formats/files").json["data"]["files"]
    assert {(each["name"], each["format"], each["size_bytes"]) for each in files} == {
        ("formats.onnx", "onnx", 1),
        ("formats.safetensors", "safetensors", 1),
    }
    for name, content in (("formats.onnx", b"o"), ("formats.safetensors", b"s"), ("model.safetensors", b"s")):
        query = f"?version_id={formats.id.upper()}&name={name}"
        url = server.get(f"{API}/formats/files/download{query}").json["data"]["download_url"]
        assert server.get(url).body == content
    for query in (
        "",
        f"?version_id={formats.id}",
        "?version_id=x&name=formats.onnx",
        f"?version_id={formats.id}&name=x",
    ):
        assert server.get(f"{API}/formats/files/download{query}").status == 404


def test_head_is_get_without_the_body(server):
    paths = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/", f"{API}/?limit=2", f"{API}/precise"]
    paths += [f"{API}/precise/{part}" for part in ("download", "versions", "files")]
    paths += [f"{API}/nobody", "/nowhere", f"{API}/?limit=0", server.download_url("precise").removeprefix(server.url)]
    for path in paths:
        got, head = server.get(path), server.request("HEAD", path)
        assert (head.status, head.body) == (got.status, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
        if path != "/metrics":
            assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


def test_every_answer_has_an_id_and_takes_a_fit_one_from_the_client(server):
    for path in ("/healthz", f"{API}/", f"{API}/nobody", "/nowhere", f"{API}/%ff", "/blobs/x"):
        assert re.fullmatch("[0-9a-f]{16}", server.get(path).headers["x-request-id"])
        assert server.get(path, {"X-Request-Id": "req_1.a-b"}).headers["x-request-id"] == "req_1.a-b"
        assert server.get(path, {"X-Request-Id": "a b;c" * 20}).headers["x-request-id"] != "a b;c" * 20


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{API}/%", 400),
        (f"{API}/%zz/download", 400),
        (f"{API}/%ff", 400),
        (f"{API}/a%00b", 400),
        (f"{API}/{'a' * 2000}", 400),
        (f"{API}/..%2f..%2fetc%2fpasswd", 404),
        (f"{API}/a/b/c/d", 404),
        (f"{API}/?name=%ff", 422),
        (f"{API}/?name=%", 422),
        (f"{API}/?name=a&name=b", 422),
        (f"{API}/?{'&'.join(f'a{i}=1' for i in range(100))}", 422),
        (f"{API}/precise/download?format=%zz", 422),
        ("/blobs/..%2f..%2findex.sqlite", 404),
        ("/blobs/../index.sqlite", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/api/v1/developer%2Fmodels/", 404),
        ("/../../etc/passwd", 404),
    ],
)
def test_bad_input_is_a_clear_4xx(server, path, status):
    answer = server.get(path)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json["detail"]
    assert str(server.root) not in answer.body.decode()


@pytest.mark.parametrize("host", ["mirror:1234", "[::1]:5", "box.lan"])
def test_the_download_address_is_built_from_the_one_that_was_used(server, host):
    assert server.download_url("precise", headers={"Host": host}).startswith(f"http://{host}/blobs/")


def test_a_trusted_proxy_says_what_the_address_is(server):
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "front:8443", "X-Forwarded-Prefix": "/m"}
    assert server.download_url("precise", headers=forwarded).startswith("https://front:8443/m/blobs/")


def test_a_bad_host_is_refused_only_where_it_matters(server):
    for headers in ({"Host": "a b"}, {"Host": "user@x"}, {"X-Forwarded-Prefix": "//x"}):
        assert server.get(f"{API}/precise/download", headers).status == 400
        assert server.get(f"{API}/precise", headers).status == 200


def test_an_untrusted_peer_a_prefix_and_a_public_address(root):
    env = {"MIRROR_SERVE_PATH_PREFIX": "/pre/fix", "MIRROR_SERVE_TRUSTED_PROXIES": "10.0.0.0/8"}
    with Serving(root.path, "--without-keys", env=env) as server:
        bare = server.url.removesuffix("/pre/fix")
        forwarded = {"X-Forwarded-Host": "evil", "Host": "h"}
        assert server.request("GET", "/healthz").status == 200
        for path, base in ((f"/pre/fix{API}", "http://h/pre/fix"), (API, "http://h")):
            answer = server.request("GET", f"{path}/precise/download", forwarded).json
            assert answer["download_url"].startswith(f"{base}/blobs/")
            asked = answer["download_url"].removeprefix("http://h")
            assert server.request("GET", asked).body == b"precise"
        assert bare != server.url
    with Serving(root.path, env={"MIRROR_SERVE_PUBLIC_URL": "https://m.example/x/"}) as server:
        url = server.get(f"{API}/precise/download", {"Host": "M.example"}).json["download_url"]
        assert url.startswith("https://m.example/x/blobs/")
        # A signature is of the path behind the prefix: the proxy that strips it changes nothing.
        assert server.get(urlsplit(url).path.removeprefix("/x") + "?" + urlsplit(url).query).body == b"precise"
        assert dict(parse_qsl(urlsplit(url).query))["name"] == "precise.onnx"


OWN = ("localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:9")
FOREIGN = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "192.168.1.5", "a b", "[::2]")


def test_without_keys_only_names_of_this_machine_are_answered_to(root):
    """A page whose name was made to lead to 127.0.0.1 (DNS rebinding) reads nothing."""
    with Serving(root.path, env={"MIRROR_SERVE_PUBLIC_URL": "https://m.example/x"}) as server:
        for path in ("/", "/metrics", f"{API}/", f"{API}/precise/download", f"/blobs/{'0' * 32}.onnx"):
            for host in FOREIGN:
                answer = server.get(path, {"Host": host})
                assert (answer.status, answer.json["error"]["code"]) == (421, "misdirected_request"), host
            for host in (*OWN, "m.example", "M.EXAMPLE:443"):
                assert server.get(path, {"Host": host}).status in (200, 404), host
        assert server.get("/healthz", {"Host": "evil.example"}).status == 200
        assert server.get(f"{API}/", {"Host": "evil.example", "X-Forwarded-Host": "localhost"}).status == 421
        box = new_key(root.path)
        assert server.get(f"{API}/", {"Host": "evil.example", **box}).status == 200
        (root.path / "keys.toml").unlink()


def test_rows_that_lack_required_fields_are_filled_from_the_index(tmp_path):
    root = Root(tmp_path / "root")
    root.add("bare", b"x", created=None, updated=None)
    root.publish(organization_id="org-of-meta")
    with Serving(root.path) as server:
        row = server.get(f"{API}/bare").json["data"]
        assert row["organization_id"] == "org-of-meta"
        assert row["created_at"] == row["updated_at"] == "2026-03-01T08:00:00Z"
        assert json.loads(entry(root, "bare").document)["id"] == row["id"]
