"""The status page of a running server, asked for plainly and looked at in a real Chromium."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import struct
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.chromium import DESKTOP, PHONE, Chromium, find_chromium
from support.documents import make_document
from support.page_server import Serving
from support.roots import GONE, SEEN, ModelEntry, Root, failure

from registry_mirror.model import format_time
from registry_mirror.server.auth import ClientKey, change, digest_of

SCREENSHOT = Path(__file__).parents[2] / "docs" / "status-page.png"
HOSTILE = (
    "<script>document.title='hit'</script>",
    '"><img src=x onerror="document.title=1">',
    "' autofocus onfocus='alert(1)",
    "</table></main><style>*{display:none}</style>",
    "{{ 7*7 }}{% raw %}",
    "\u202egpj.exe\u202c\u2066",
    "line\nbreak\t\x1b[31m\x00",
    "x" * 300,
    "\u4e16" * 300,
    "\u05de\u05d5\u05d3\u05dc",
    "&lt;b&gt; &amp;",
    "",
)


def write_run(root: Root, *, ago: timedelta = timedelta(minutes=3), **changes) -> None:
    """`run.json` of a run that ended so long ago."""
    ended = datetime.now(UTC) - ago
    run = {"outcome": "ok", "started_at": format_time(ended - timedelta(seconds=74)), "finished_at": format_time(ended)}
    run |= {"listed": 6, "fetched": {"files": 2, "bytes": 1_600_000}, "failed": [], **changes}
    root.layout.run_record.write_text(json.dumps({"run": run, "last_synced_at": format_time(ended)}))


def fill(root: Root) -> Root:
    """A few models of every kind."""
    root.add(
        "Forklift Finder",
        b"forklift",
        model_id="id-forklift",
        architecture="yolox-s",
        version="2.0.0",
        metrics={"mAP": 0.6134, "recall": 0.58},
        updated="2026-03-02T09:30:00Z",
    )
    root.add("Pallet Outline", b"pallet", model_type="semantic_segmentation", metrics={"mIoU": 0.8}, version="1.0.0")
    root.add("Waiting", None, failures=(failure("storage answered 503", 4),))
    root.add("Dock Door", None, status="training", model_type="instance_segmentation")
    root.add("Label Reader", None, status="failed")
    root.add("Old Finder", b"old", status="archived")
    root.add("Away Finder", b"away", gone_at=GONE)
    root.publish(base_url="https://registry.example", organization_id="org-7")
    write_run(root, ago=timedelta(hours=3))
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server over a few models, for tests that change nothing."""
    root = fill(Root(tmp_path_factory.mktemp("served") / "root"))
    with Serving(root.path, "--without-keys") as server:
        yield server


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "root")


@pytest.fixture(scope="module")
def browser():
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium is installed here")
    browser = Chromium(program)
    yield browser
    browser.close()


def names(page: str) -> list[str]:
    """The models of the list, in order."""
    return [html.unescape(name) for name in re.findall(r'<bdi class="name"[^>]*>(.*?)</bdi>', page, re.DOTALL)]


def links(page: str) -> list[str]:
    """The download links."""
    return [html.unescape(link) for link in re.findall(r'<a class="download" href="([^"]*)"', page)]


def test_the_page_shows_the_live_models_and_what_is_to_know(served):
    answer = served.get("/")
    page = answer.text
    assert answer.status == 200
    assert set(names(page)) == {"Forklift Finder", "Pallet Outline", "Waiting", "Dock Door", "Label Reader"}
    for said in ("https://registry.example", "org-7", "synced 3 h ", "yolox-s", "0.613", "2.0.0", "2026-03-02",
                 "object detection", "storage answered 503", "4 attempts", "2 files, 1.5 MiB", "1 min 14 s",
                 "3 ready, 1 training, 1 failed, 1 archived, 1 gone", "not here yet", "still training",
                 f"PICTOGRAPH_BASE_URL={served.base}", "id-forklift", "free"):  # fmt: skip
        assert said in page, said
    assert "notice" not in page.partition("<body>")[2]


def test_nothing_on_the_page_is_loaded_from_anywhere_and_nothing_runs(served):
    answer = served.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "form-action 'self'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<html lang="en">' in answer.text
    assert '<meta name="robots" content="noindex">' in answer.text
    assert not re.search(r"<script|\son\w+=|style=|@import|url\(|src=", answer.text)
    loaded = set(re.findall(r'(?:href|action)="([^"#?]*)', answer.text))
    assert all(link.startswith(("/", "data:")) and not link.startswith("//") for link in loaded if link)


def test_head_answers_like_get_without_the_page(served):
    whole, head = served.get("/"), served.get("/", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]
    assert head.headers["Content-Security-Policy"] == whole.headers["Content-Security-Policy"]
    assert served.get("/", method="POST").status == 405


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=FINDER", ["Forklift Finder"]), ("q=finder&status=archived", ["Old Finder"]),
        ("status=gone", ["Away Finder"]), ("q=id-fork", ["Forklift Finder"]), ("q=semantic+seg", ["Pallet Outline"]),
        ("q=%25", []), ("q=yolo", ["Forklift Finder"]), ("status=missing", ["Waiting"]),
        ("status=training&q=&page=1", ["Dock Door"]), ("page=2", []),
    ],
)  # fmt: skip
def test_a_search_and_a_filter_find_what_they_say(served, query, found):
    answer = served.get(f"/?{query}")
    assert answer.status == 200
    assert names(answer.text) == found


def test_what_was_searched_for_stands_in_the_box_and_in_every_filter(served):
    page = served.get("/?q=a%22%3E%26b&status=ready").text
    assert 'name="q" value="a&#34;&gt;&amp;b"' in page
    assert '<input type="hidden" name="status" value="ready">' in page
    assert 'href="/?q=a%22%3E%26b#models"' in page
    assert "No model here has" in page
    turned = served.get("/?q=%E2%80%AE%0A").text
    assert "\u202e" not in turned
    assert 'value="\\u202e"' in turned


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("page=0", "page"), ("page=x", "page"), ("status=READY", "status"), ("limit=5", "limit"), ("q=1&q=2", "q"),
        ("q=%", "query"), ("q=%ff", "query"), ("q=%00", "q"), (f"q={'x' * 201}", "q"),
        ("&".join(f"a{number}=" for number in range(99)), "parameters"),
    ],
)  # fmt: skip
def test_bad_parameters_get_a_clear_refusal(served, query, name):
    answer = served.get(f"/?{query}")
    assert answer.status == 422
    assert name in json.loads(answer.body)["error"]["message"]


def test_a_host_that_is_none_is_refused(served):
    assert served.get("/", {"Host": "a b"}).status == 400


def test_a_download_link_gives_the_weights_under_a_name_of_their_own(served):
    (link,) = links(served.get("/?q=forklift").text)
    answer = served.get(link)
    assert (answer.status, answer.body) == (200, b"forklift")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="forklift-finder.onnx"'
    assert len(links(served.get("/?status=archived").text)) == 1


def test_every_current_file_of_a_model_has_a_link_and_one_that_is_not_there_has_none(root):
    onnx, torch = root.blob(b"onnx"), root.blob(b"torch", "pytorch")
    old, lost = root.blob(b"old", current=False), root.blob(b"lost", "safetensors")
    root.add("many", weights=(onnx, torch, old, lost))
    root.publish()
    root.path_of(lost).unlink()
    with Serving(root.path) as server:
        page = server.get("/").text
        assert [server.get(link).body for link in links(page)] == [b"onnx", b"torch"]
    assert all(entry.md5 in page for entry in (onnx, torch, lost))
    assert old.md5 not in page
    assert "file missing" in page


def test_without_an_index_the_page_says_what_to_do_and_shows_it_when_it_comes(root):
    with Serving(root.path) as server:
        answer = server.get("/")
        assert answer.status == 200
        assert "This mirror has no index yet" in answer.text
        assert "<code>mirror sync</code>" in answer.text
        assert str(root.path) not in answer.text
        root.publish()
        assert "No models here yet" in server.get("/").text
        root.add("first")
        root.publish()
        assert names(server.get("/").text) == ["first"]
        root.layout.index.write_bytes(b"no index at all" * 1000)
        answer = server.get("/")
        assert "The index of this mirror cannot be read" in answer.text
        assert str(root.path) not in answer.text


def test_a_damaged_record_of_the_last_run_is_said_and_spoils_nothing(root):
    fill(root)
    with Serving(root.path) as server:
        for content in (b"", b"{", b"[1]", b'{"run": 7}', b"\xff\xfe", b"[" * 200_000):
            root.layout.run_record.write_bytes(content)
            answer = server.get("/")
            assert answer.status == 200
            assert "The record of the last run cannot be read" in answer.text
            assert str(root.path) not in answer.text
            assert "Forklift Finder" in names(answer.text)


def test_an_old_mirror_and_a_failed_run_are_said_with_the_reason(root):
    write_run(fill(root), ago=timedelta(days=3), outcome="failed", error="the listing shrank <from> 9 to 0")
    with Serving(root.path) as server:
        page = server.get("/").text
        assert "The last run failed" in page
        assert "the listing shrank &lt;from&gt; 9 to 0" in page
        assert "This mirror is old: synced 3 d ago" in page
        write_run(root, outcome="partial", failed=[{"id": "i", "name": "Waiting", "error": "storage is away"}])
        page = server.get("/").text
        assert "The last run ended partial" in page
        assert "storage is away" in page


def test_where_keys_are_asked_for_the_page_asks_too_and_its_links_end_with_the_key(root):
    fill(root)
    key = ClientKey("box", digest_of("a key"), None)
    change(root.layout.keys, lambda _: (key,))
    basic = {"Authorization": f"Basic {base64.b64encode(b'anyone:a key').decode()}"}
    wrong = {"Authorization": f"Basic {base64.b64encode(b'a key:wrong').decode()}"}
    with Serving(root.path) as server:
        for headers in ({}, wrong):
            refused = server.get("/", headers)
            assert refused.status == 401
            assert refused.headers["WWW-Authenticate"].startswith("Basic ")
            assert b"Forklift" not in refused.body
        assert server.get("/?page=x").status == 401
        page = server.get("/", basic).text
        assert "a key" not in page
        link = links(page)[0]
        assert server.get(link).status == 200
        change(root.layout.keys, lambda _: (replace(key, name="other"),))
        assert server.get(link).status == 403


def test_links_keep_the_prefix_of_a_proxy_that_passes_it_on_and_of_one_that_strips_it(root):
    fill(root)
    with Serving(root.path, env={"MIRROR_SERVE_PATH_PREFIX": "/models"}) as server:
        host = server.base.removesuffix("/models")
        for address in (server.base, f"{server.base}/", f"{server.base}/?q=finder"):
            page = server.get(address).text
            assert 'action="/models/"' in page
            (link, *_) = links(page)
            assert link.startswith("/models/blobs/")
            assert server.get(host + link).status == 200
        assert all(link.startswith("/blobs/") for link in links(server.get(f"{host}/").text))
    with Serving(root.path) as server:
        page = server.get("/", {"X-Forwarded-Prefix": "/far/away"}).text
        assert 'action="/far/away/"' in page
        assert all(link.startswith("/far/away/blobs/") for link in links(page))


def test_a_large_mirror_is_shown_a_hundred_at_a_time_and_fast(root):
    for number in range(10_000):
        document = make_document(number)
        root.put(
            ModelEntry(
                json.dumps(document), document["id"], document["name"], "ready", "object_detection", "yolox-s",
                document["created_at"], document["updated_at"], SEEN, None, failures=(failure("e" * 900),),
            )
        )  # fmt: skip
    root.publish()
    with Serving(root.path) as server:
        server.get("/")
        began = time.perf_counter()
        pages = [server.get(f"/?page={number}").text for number in (1, 2, 100)]
        took = time.perf_counter() - began
        assert [names(page)[0] for page in pages] == ["model-09999", "model-09899", "model-00099"]
        assert all(len(names(page)) == 100 for page in pages)
        assert all(len(page) < 300_000 for page in pages)
        assert "1-100 of 10,000" in pages[0]
        assert 'rel="next" href="/?page=2#models"' in pages[0]
        assert 'rel="prev"' not in pages[0]
        assert 'rel="next"' not in pages[2]
        assert "and 9980 more" in pages[0]
        assert "There is no page 101" in server.get("/?page=101").text
        assert names(server.get("/?q=MODEL-00042").text) == ["model-00042"]
    assert took < 10  # 0.15 s where nothing else runs


# Of everything that holds text of its own: is it at least as far from its ground as WCAG's AA asks?
CONTRAST = """(() => {
  const read = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a] };
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b };
  const ground = node => { for (; node; node = node.parentElement) {
    const c = read(getComputedStyle(node).backgroundColor); if (c[3] === 1) return c } return [255, 255, 255, 1] };
  const poor = []; let seen = 0;
  for (const node of document.body.querySelectorAll('*')) {
    const own = [...node.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !node.getClientRects().length) continue;
    seen++;
    const [a, b] = [light(read(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(node.className + ' ' + node.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return {seen, poor};
})()"""
OVERFLOW = """[...document.querySelectorAll('body *')].filter(n => !n.closest('.hidden') &&
  n.getBoundingClientRect().right > document.documentElement.clientWidth + .5)
  .map(n => n.tagName + '.' + n.className)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, (820, 1100), PHONE, (320, 640)], ids=lambda size: str(size[0]))
def test_the_page_fits_the_window_and_can_be_read(browser, served, tmp_path, size, dark):
    browser.visit(f"{served.base}/", size, dark=dark)
    assert browser.complaints == []
    assert browser.evaluate("document.documentElement.scrollWidth") == size[0]
    assert browser.evaluate(OVERFLOW) == []
    found = browser.evaluate(CONTRAST)
    assert found["seen"] > 60
    assert found["poor"] == []
    # The one style was let in, and answers to the scheme.
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(14, 19, 24)" if dark else "rgb(245, 246, 248)")
    browser.screenshot(tmp_path / "page.png")
    content = (tmp_path / "page.png").read_bytes()
    assert struct.unpack(">II", content[16:24])[0] == size[0]
    assert len(content) > 30_000  # a blank one has 5,000


def test_on_a_phone_each_model_is_a_card_and_on_a_desktop_a_row(browser, served):
    ask = (
        "(() => { const cells = [...document.querySelectorAll('tbody tr:first-child > *')].filter(n => n.offsetHeight);"
        " return {tops: new Set(cells.map(n => Math.round(n.getBoundingClientRect().top))).size,"
        " head: document.querySelector('thead').offsetHeight,"
        " label: getComputedStyle(document.querySelector('td[data-label=Weights]'), '::before').content} })()"
    )
    browser.visit(f"{served.base}/", PHONE)
    card = browser.evaluate(ask)
    assert card["tops"] >= 3
    assert card["head"] == 0
    assert card["label"] == "attr(data-label)" or "Weights" in card["label"]
    browser.visit(f"{served.base}/", DESKTOP)
    row = browser.evaluate(ask)
    assert row["tops"] == 1
    assert row["head"] > 0


def test_the_accessible_table_has_its_headers_and_the_box_its_label(browser, served):
    for size in (DESKTOP, PHONE):
        browser.visit(f"{served.base}/", size)
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        known = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node}
        roles = [role for role, _ in known]
        assert ("heading", "Model mirror") in known
        assert ("searchbox", "Search by name, id, architecture or type") in known
        assert ("button", "Search") in known
        assert {"banner", "main", "contentinfo", "search", "navigation", "table"} <= set(roles)
        assert any(role == "rowheader" and name.startswith("Forklift Finder") for role, name in known)
        assert any(role == "link" and name.startswith("Download Forklift Finder, onnx") for role, name in known)


def test_a_person_searches_filters_and_turns_the_page(browser, root):
    for number in range(120):
        root.add(f"model {number:03}", None, created=f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z")
    root.add("Old", None, status="archived")
    root.publish()
    shown = "[...document.querySelectorAll('.name')].map(n => n.textContent)"
    with Serving(root.path) as server:
        browser.visit(f"{server.base}/")
        assert len(browser.evaluate(shown)) == 100
        browser.press("document.querySelector('a[rel=next]').click()")
        assert browser.evaluate(shown)[-1] == "model 000"
        browser.press("document.querySelector('#q').value = 'EL 11'; document.querySelector('button').click()")
        assert browser.evaluate(shown) == [f"model {number}" for number in range(119, 109, -1)]
        assert browser.evaluate("document.querySelector('#q').value") == "EL 11"
        browser.press("[...document.querySelectorAll('.chip')].find(n => n.textContent.startsWith('Ready')).click()")
        assert browser.evaluate("location.search") == "?q=EL+11&status=ready"
        assert browser.complaints == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_hostile_names_are_words_on_the_page_and_nothing_else(browser, root, size):
    for number, name in enumerate(HOSTILE):
        root.add(
            name, b"%d" % number, model_id=f"{number}-{name}", status=("ready", "<b>", "gone\n", "")[number % 4],
            architecture=name, model_type=name, version=name, metrics={name: 0.5, "m": 10**400}, updated=name,
            failures=(failure(name * 9),),
        )  # fmt: skip
    root.publish(base_url="https://registry.example/<b>", organization_id=HOSTILE[1])
    failed = [{"name": f"{name}\ud800", "error": name} for name in HOSTILE]
    write_run(root, outcome=HOSTILE[0], error=f"`{HOSTILE[3]}` " * 30, failed=failed)
    with Serving(root.path) as server:
        browser.visit(f"{server.base}/?q=%22%3E%3Cscript%3E")
        assert browser.evaluate("document.querySelector('#q').value") == '"><script>'
        browser.visit(f"{server.base}/", size)
        assert browser.complaints == []
        assert browser.dialogs == 0
        assert browser.evaluate("document.title") == "Model mirror: https://registry.example/<b>"
        assert browser.evaluate("document.querySelectorAll('script, img, b, iframe, [autofocus]').length") == 0
        assert browser.evaluate("document.querySelectorAll('style').length") == 1
        assert browser.evaluate("document.documentElement.scrollWidth") == size[0]
        assert browser.evaluate(OVERFLOW) == []
        shown = browser.evaluate("[...document.querySelectorAll('.name')].map(n => n.textContent)")
        text = browser.evaluate("document.body.textContent")
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3], HOSTILE[4], HOSTILE[9], HOSTILE[10]} <= set(shown)
    assert {"line\\nbreak\\t\\x1b[31m\\x00", "\\u202egpj.exe\\u202c\\u2066", "(no name)"} <= set(shown)
    assert max(map(len, shown)) == 120
    assert not set(text) & set("\u202e\u202c\u2066\x1b\x00")


def test_the_picture_in_the_documentation_is_a_small_png():
    assert SCREENSHOT.read_bytes().startswith(b"\x89PNG")
    assert os.path.getsize(SCREENSHOT) < 300_000
