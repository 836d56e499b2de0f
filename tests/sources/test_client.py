"""`Client`: every row of the platform's models page, and what goes wrong on the wire."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.syncing import files_under
from support.upstream import (
    Chunked,
    CutAfter,
    FaultyUpstream,
    FlipByte,
    Gzipped,
    HangUp,
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

import registry_mirror
from registry_mirror import Client, errors
from registry_mirror.demo import DemoUpstream
from registry_mirror.transfer.retry import RetryPolicy

QUICK = RetryPolicy(budget=0)


@pytest.fixture
def client(upstream):
    with Client(upstream.api_key, upstream.base_url, retry=QUICK) as opened:
        yield opened


def client_of(upstream):
    return Client(upstream.api_key, upstream.base_url, retry=QUICK)


# --- list and iter ---------------------------------------------------------------------------------------------------


def test_list_gives_models_with_the_fields_of_the_page(client):
    models = client.models.list(limit=20)
    assert len(models) == 3
    for model in models:
        assert (model.architecture, model.status, model.model_type) == ("yolox-s", "ready", "object_detection")
        assert model.metrics["mAP"] >= 0.5
        assert model.classes == ("pallet", "forklift")


def test_list_gives_50_unless_told_otherwise():
    with FaultyUpstream(many_models(60)) as upstream, client_of(upstream) as client:
        assert len(client.models.list()) == 50
        assert len(client.models.list(limit=7)) == 7


def test_list_joins_pages_up_to_its_limit():
    with FaultyUpstream(many_models(260), page_cap=100) as upstream, client_of(upstream) as client:
        found = client.models.list(limit=250)
        assert len({model.id for model in found}) == 250
        assert upstream.requests.api == 3


@pytest.mark.parametrize("limit", [0, -1, 501, 10**9, "50", 2.5, True, None])
def test_a_limit_outside_1_to_500_is_refused_before_anything_is_sent(client, upstream, limit):
    with pytest.raises(errors.ValidationError, match="1 to 500"):
        client.models.list(limit=limit)
    with pytest.raises(errors.ValidationError, match="1 to 500"):
        client.models.iter(page_size=limit)
    assert upstream.requests.api == 0


@pytest.mark.parametrize("pagination", [True, False])
def test_iter_reads_every_page(pagination):
    with FaultyUpstream(many_models(130), pagination=pagination) as upstream, client_of(upstream) as client:
        assert len({model.id for model in client.models.iter(page_size=50)}) == 130


def test_iter_asks_for_a_page_only_when_it_is_needed():
    with FaultyUpstream(many_models(130)) as upstream, client_of(upstream) as client:
        models = client.models.iter(page_size=50)
        assert upstream.requests.api == 0
        next(models)
        assert upstream.requests.api == 1


def test_status_and_type_filter_the_list():
    models = [make_model(1), make_model(2, status="training"), make_model(3, model_type="classification")]
    with FaultyUpstream(models) as upstream, client_of(upstream) as client:
        assert [model.name for model in client.models.list(status="training")] == ["model-00002"]
        assert [model.name for model in client.models.list(model_type="classification")] == ["model-00003"]
        assert [m.name for m in client.models.iter(status=registry_mirror.ModelStatus.TRAINING)] == ["model-00002"]


def test_archived_models_are_hidden_unless_asked_for():
    with FaultyUpstream([make_model(1), make_model(2, status="archived")]) as upstream, client_of(upstream) as client:
        assert [model.name for model in client.models.list()] == ["model-00001"]
        assert [model.name for model in client.models.list(status="archived")] == ["model-00002"]


def test_an_upstream_that_ignores_filters_does_not_change_the_answer():
    class Deaf(FaultyUpstream):
        def api(self, request):
            target = request.target.partition("?")
            kept = "&".join(part for part in target[2].split("&") if part.startswith(("limit", "offset")))
            return super().api(replace(request, target=f"{target[0]}?{kept}"))

    with Deaf([make_model(1), make_model(2, status="training")]) as upstream, client_of(upstream) as client:
        assert [model.name for model in client.models.list(status="training")] == ["model-00002"]
        assert client.models.get("model-00002").id == make_document(2)["id"]


@pytest.mark.parametrize("envelope", ["models", "data", "both"])
def test_every_verb_works_with_either_envelope(envelope, tmp_path):
    with FaultyUpstream(many_models(2), envelope=envelope) as upstream, client_of(upstream) as client:
        assert len(client.models.list()) == 2
        assert client.models.get("model-00001").name == "model-00001"
        path = client.models.download("model-00001", output_path=tmp_path / "m.onnx")
        assert path.read_bytes() == weights_bytes(1)
        client.models.delete("model-00001")
        assert len(client.models.list()) == 1


# --- get -------------------------------------------------------------------------------------------------------------


def test_get_takes_an_id_or_a_name(client):
    by_id = client.models.get(make_document(1)["id"])
    assert client.models.get("model-00001") == by_id
    assert by_id.updated_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert by_id.document["visibility"] == "private"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "n" * 300, "🦩", "100%", "%2F", "", "..", ".", "a?b#c", "+"]
)
def test_get_finds_any_name(name):
    with FaultyUpstream([make_model(1), make_model(2, name=name)]) as upstream, client_of(upstream) as client:
        assert client.models.get(name).id == make_document(2)["id"]


def test_a_name_is_found_on_an_upstream_that_takes_ids_only():
    with FaultyUpstream([make_model(1), make_model(2)]) as upstream, client_of(upstream) as client:
        upstream.inject(error(404), kind="get", path="model-00002", times=None)
        assert client.models.get("model-00002").id == make_document(2)["id"]
        upstream.heal()
        upstream.inject(error(422), kind="get", path="model-00002", times=None)
        assert client.models.get("model-00002").id == make_document(2)["id"]


def test_an_unknown_model_is_not_found(client):
    for unknown in ("nobody", "4d5c1f8e-0000-4000-8000-000000000000", ""):
        with pytest.raises(errors.NotFoundError) as caught:
            client.models.get(unknown)
        assert (caught.value.status, caught.value.exit_code) == (404, 8)


# --- download --------------------------------------------------------------------------------------------------------


def test_download_streams_to_the_file_reports_progress_and_returns_its_path(tmp_path):
    data, seen = weights_bytes(1, size=3 << 20), []
    with FaultyUpstream([make_model(1, data=data)]) as upstream, client_of(upstream) as client:
        path = client.models.download(
            make_document(1)["id"], output_path=str(tmp_path / "yolox.onnx"), progress=lambda *both: seen.append(both)
        )
    assert path == tmp_path / "yolox.onnx"
    assert path.read_bytes() == data
    assert seen[0] == (0, len(data))
    assert seen[-1] == (len(data), len(data))
    assert len(seen) > 10
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("status", ["training", "failed", "archived"])
def test_only_ready_models_can_be_downloaded(status, tmp_path):
    with FaultyUpstream([make_model(1, status=status)]) as upstream, client_of(upstream) as client:
        with pytest.raises(errors.ConflictError, match=status) as caught:
            client.models.download("model-00001", tmp_path / "m.onnx")
        assert caught.value.status == 409
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("status", [400, 409])
def test_a_refusal_to_give_weights_is_a_conflict_under_either_status(client, upstream, tmp_path, status):
    upstream.inject(error(status, "still training"), kind="download", times=None)
    with pytest.raises(errors.ConflictError, match="still training"):
        client.models.download("model-00001", tmp_path / "m.onnx")


def test_a_download_of_an_unknown_model_is_not_found(client, tmp_path):
    with pytest.raises(errors.NotFoundError):
        client.models.download("nobody", tmp_path / "m.onnx")


def test_a_download_to_a_folder_or_into_none_is_refused_before_anything_is_sent(client, upstream, tmp_path):
    for output in (tmp_path, tmp_path / "missing" / "m.onnx"):
        with pytest.raises(errors.ConfigurationError):
            client.models.download("model-00001", output)
    assert upstream.requests.api == 0


GOOD_WITH = {
    "chunks and a digest": [Chunked()],
    "neither length nor end, but a digest": [UntilClose()],
    "no digest at all": [no_digest()],
    "an ETag that is the MD5": [etag_only()],
    "an ETag that is something else, twice the same body": [unrelated_etag()],
    "no digest and no length, twice the same body": [no_digest(), UntilClose()],
}


@pytest.mark.parametrize("faults", GOOD_WITH.values(), ids=GOOD_WITH)
def test_storages_of_every_manner_give_whole_files(client, upstream, tmp_path, faults):
    upstream.inject(*faults, kind="weights", times=None)
    assert client.models.download("model-00001", tmp_path / "m").read_bytes() == weights_bytes(1)


ONCE = {
    "cut": [CutAfter(100)],
    "cut without a length, with a digest": [CutAfter(100), UntilClose()],
    "one byte wrong": [FlipByte(7)],
    "a digest of something else": [wrong_digest()],
    "storage down": [error(503)],
    "an expired address": [error(403)],
    "no answer at all": [HangUp()],
    "a sign-in page under the object's headers": [html()],
}


@pytest.mark.parametrize("faults", ONCE.values(), ids=ONCE)
def test_a_body_that_goes_wrong_once_is_fetched_once_more_with_a_fresh_address(client, upstream, tmp_path, faults):
    upstream.inject(*faults, kind="weights", times=1)
    assert client.models.download("model-00001", tmp_path / "m").read_bytes() == weights_bytes(1)
    assert upstream.requests.storage == 2
    assert sum("/download" in path for _, _, path in upstream.requests.log) == 2


ALWAYS = {
    "one byte wrong": ([FlipByte(7)], errors.IntegrityError, "declared"),
    "a digest of something else": ([wrong_digest()], errors.IntegrityError, "declared"),
    "a sign-in page": ([html()], errors.IntegrityError, "sign-in page"),
    "a sign-in page as octets": ([html(content_type="application/octet-stream")], errors.IntegrityError, "sign-in"),
    "JSON instead of weights": ([json_body({"error": "expired"})], errors.IntegrityError, "JSON"),
    "always cut before its first byte": ([CutAfter(0)], errors.NetworkError, "127.0.0.1"),
    "missing in storage": ([error(404)], errors.TransferError, "404"),
    "a redirect": ([redirect("http://169.254.169.254/")], errors.TransferError, "302"),
    "storage down": ([error(503)], errors.TransferError, "503"),
}


@pytest.mark.parametrize(("faults", "kind", "words"), ALWAYS.values(), ids=ALWAYS)
def test_a_body_that_stays_wrong_fails_and_leaves_the_older_file_alone(client, upstream, tmp_path, faults, kind, words):
    (tmp_path / "m").write_bytes(b"older")
    upstream.inject(*faults, kind="weights", times=None)
    with pytest.raises(kind, match=words):
        client.models.download("model-00001", tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"older"
    assert files_under(tmp_path) == ["m"]


def test_two_bodies_that_differ_under_an_unrelated_etag_are_refused(client, upstream, tmp_path):
    upstream.inject(unrelated_etag(), FlipByte(3), kind="weights", times=1)
    upstream.inject(unrelated_etag(), kind="weights", times=None)
    with pytest.raises(errors.IntegrityError, match="twice"):
        client.models.download("model-00001", tmp_path / "m")


def test_a_body_that_is_compressed_on_its_way_is_stored_as_it_was(client, upstream, tmp_path):
    upstream.inject(Gzipped(), kind="weights", times=None)
    assert client.models.download("model-00001", tmp_path / "m").read_bytes() == weights_bytes(1)


def test_storage_never_sees_the_key(client, upstream, tmp_path):
    client.models.download("model-00001", tmp_path / "m")
    requests = [entry for entry in upstream.requests.entries if entry.origin == "storage"]
    assert requests
    for request in requests:
        assert upstream.api_key not in repr(request)
        assert "x-api-key" not in {name.lower() for name in request.headers}


def test_a_redirect_of_the_api_is_not_followed_and_the_key_goes_nowhere():
    with DemoUpstream() as thief, FaultyUpstream(many_models(1)) as upstream, client_of(upstream) as client:
        upstream.inject(redirect(f"{thief.base_url}/api/v1/developer/models/"), kind="list", times=None)
        with pytest.raises(errors.ProtocolError, match="redirect"):
            client.models.list()
        assert thief.requests.log == []


# --- delete ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True])
def test_delete_is_accepted_soft_or_hard(hard):
    with FaultyUpstream(many_models(2), hard_delete=hard) as upstream, client_of(upstream) as client:
        client.models.delete("model-00001")
        assert [model.name for model in client.models.list()] == ["model-00000"]
        assert len(client.models.list(status="archived")) == (0 if hard else 1)
        with pytest.raises(errors.NotFoundError):
            client.models.delete("nobody")


# --- errors and retries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (error(401), errors.AuthError),
        (error(402), errors.PaymentRequiredError),
        (error(403), errors.ForbiddenError),
        (error(422), errors.ValidationError),
        (error(500), errors.ServerError),
        (html(), errors.ProtocolError),
        (empty(), errors.ProtocolError),
        (Truncate(40), errors.ProtocolError),
        (json_body([1, 2]), errors.ProtocolError),
        (json_body({"success": True}), errors.ProtocolError),
        (HangUp(), errors.NetworkError),
    ],
)
def test_each_thing_that_goes_wrong_is_its_own_error(client, upstream, fault, kind):
    upstream.inject(fault, kind="list", times=None)
    with pytest.raises(kind) as caught:
        client.models.list()
    assert type(caught.value) is kind
    assert "list models" in str(caught.value)


@pytest.mark.parametrize("fault", [error(500), error(502), error(503), error(504), error(408), error(429), HangUp()])
def test_a_call_is_tried_four_times(client, upstream, fault):
    upstream.inject(fault, kind="list", times=3)
    assert len(client.models.list()) == 3
    upstream.requests.clear()
    upstream.inject(fault, kind="list", times=4)
    with pytest.raises(errors.MirrorError):
        client.models.list()
    assert upstream.requests.api == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_what_will_not_change_is_not_tried_again(client, upstream, status):
    upstream.inject(error(status), kind="get", times=None)
    with pytest.raises(errors.MirrorError):
        client.models.get(make_document(1)["id"])
    assert upstream.requests.api == 1


class Slept(list):
    """Takes the waits and does not wait."""

    def policy(self, budget):
        return RetryPolicy(budget=budget, sleep=self.append)


def test_the_waits_grow_and_add_up_to_the_budget(upstream):
    slept = Slept()
    upstream.inject(error(503), kind="list", times=None)
    with (
        Client(upstream.api_key, upstream.base_url, retry=slept.policy(20.0)) as client,
        pytest.raises(errors.ServerError),
    ):
        client.models.list()
    assert len(slept) == 3
    assert slept == sorted(slept)
    assert 15.0 <= sum(slept) <= 25.0


@pytest.mark.parametrize("shape", ["seconds", "date"])
def test_a_retry_after_of_up_to_a_minute_is_obeyed(upstream, shape):
    slept = Slept()
    after = 50 if shape == "seconds" else datetime.now(UTC) + timedelta(seconds=50)
    upstream.inject(error(429, retry_after=after), kind="list")
    with Client(upstream.api_key, upstream.base_url, retry=slept.policy(0.0)) as client:
        assert len(client.models.list()) == 3
    assert slept == [pytest.approx(50, abs=3)]


def test_a_longer_retry_after_is_returned_at_once(upstream):
    slept = Slept()
    upstream.inject(error(429, retry_after=61), kind="list")
    with (
        Client(upstream.api_key, upstream.base_url, retry=slept.policy(20.0)) as client,
        pytest.raises(errors.RateLimitError) as caught,
    ):
        client.models.list()
    assert caught.value.retry_after == 61
    assert slept == []


# --- configuration and secrets ---------------------------------------------------------------------------------------


def test_the_environment_gives_key_and_address(upstream, monkeypatch):
    monkeypatch.setenv("PICTOGRAPH_API_KEY", f" {upstream.api_key}\n")
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", f"{upstream.base_url}/")
    with Client() as client:
        assert len(client.models.list()) == 3


def test_without_a_key_the_error_says_how_to_give_one(monkeypatch):
    monkeypatch.delenv("PICTOGRAPH_API_KEY", raising=False)
    with pytest.raises(errors.ConfigurationError, match="PICTOGRAPH_API_KEY"):
        Client()


@pytest.mark.parametrize("key", ["", "  ", "two words", "schlüssel", "line\nbreak"])
def test_what_cannot_be_a_key_is_refused_before_it_is_sent(key, upstream):
    with pytest.raises(errors.ConfigurationError):
        Client(key, upstream.base_url)


@pytest.mark.parametrize("url", ["http://api.example", "ftp://x", "https://", "api.example", "https://u:p@h", ""])
def test_an_address_that_must_not_get_the_key_is_refused(url, monkeypatch):
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", url)
    if not url:
        assert "api.pictograph.io" in repr(Client("k"))
        return
    with pytest.raises(errors.ConfigurationError):
        Client("pk_live_x")


def test_the_key_is_in_no_repr_and_no_error(client, upstream):
    upstream.inject(error(401, f"unknown key {upstream.api_key}"), kind="list", times=None)
    with pytest.raises(errors.AuthError) as caught:
        client.models.list()
    for value in (client, client.models, client.session, client.storage, caught.value):
        assert upstream.api_key not in repr(value)
        assert upstream.api_key not in str(value)


def test_the_public_face_is_what_is_documented():
    assert sorted(registry_mirror.__all__) == registry_mirror.__all__
    for name in registry_mirror.__all__:
        assert getattr(registry_mirror, name) is not None
    with pytest.raises(AttributeError):
        _ = registry_mirror.nothing_of_that_name


def test_nothing_is_left_open(upstream, tmp_path):
    client = client_of(upstream)
    client.models.download("model-00001", tmp_path / "m")
    client.close()
    del client
    gc.collect()  # with warnings as errors, a socket that was left open would fail the suite
