"""Which download addresses of an upstream are dialled, and which are not."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
from support.documents import many_models
from support.syncing import run_sync
from support.upstream import Edit, FaultyUpstream

from registry_mirror import Client
from registry_mirror.errors import ProtocolError
from registry_mirror.transfer.retry import RetryPolicy
from registry_mirror.transfer.target import LONGEST, check_target, refusal, refused_address

PUBLIC = "https://registry.example"

GOOD = [
    "https://storage.example/bucket/a.onnx?X-Signature=abc%2Fdef&Expires=1",
    "http://storage.example:9000/a",
    "https://93.184.216.34/a",
    "https://10.1.2.3/a",  # storage on the premises
    "https://192.168.7.7:9000/a",
    "https://[2606:2800:220:1::1]/a",
    "https://bucket.s3.eu-west-1.example/a@b?c=d@e",
    "https://127.0.0.1.storage.example/a",
    "https://localhost.example/a",
]

FORMS = [
    "file:///etc/passwd",
    "ftp://storage.example/a",
    "data:application/octet-stream,abc",
    "gopher://storage.example/",
    "unix:///run/docker.sock",
    "//storage.example/a",
    "/a",
    "a",
    "",
    "http://",
    "http:///a",
    "https://user:pass@storage.example/a",
    "https://user@storage.example/a",
    "https://storage.example\\@evil.example/a",
    "https://storage.example/a b",
    "https://storage.example/a\r\nX-Injected: 1",
    "https://storage.example/\x00",
    "https://storage.example:99999/a",
    "https://storage.example:port/a",
    "https://[bad",
    "https://%31%32%37.0.0.1/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://\u24dbocalhost/",
    "https://storage.example/" + "a" * LONGEST,
]

PLACES = [
    "http://127.0.0.1/",
    "http://127.8.9.1:8080/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://db.localhost/",
    "http://[::1]/",
    "http://[::]/",
    "http://0.0.0.0/",
    "http://0.1.2.3/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.1.1/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[ff02::1]/",
]


@pytest.mark.parametrize("url", GOOD)
def test_an_address_of_a_storage_is_taken_as_it_is(url):
    assert check_target("x", url, PUBLIC) == url


@pytest.mark.parametrize("url", FORMS)
@pytest.mark.parametrize("base_url", [PUBLIC, "http://127.0.0.1:8080"])
def test_an_address_of_a_wrong_form_is_refused_whoever_gives_it(url, base_url):
    assert refusal(url, base_url)


@pytest.mark.parametrize("url", PLACES)
@pytest.mark.parametrize("base_url", [PUBLIC, "https://10.0.0.5", "https://[2606:2800:220:1::1]"])
def test_an_upstream_elsewhere_may_not_point_at_this_machine_or_its_link(url, base_url):
    assert refusal(url, base_url)


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]"])
def test_an_upstream_on_this_machine_may(base_url):
    assert refusal("http://127.0.0.1:9000/a", base_url) is None
    assert refusal("http://[::1]:9000/a", base_url) is None


def test_an_upstream_on_the_link_may_point_at_the_link():
    assert refusal("http://169.254.7.7/a", "http://169.254.1.1") is None
    assert refusal("http://127.0.0.1/a", "http://169.254.1.1")


CLOUDS = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fe80::a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",
    "::ffff:168.63.129.16",
    "::ffff:0:169.254.169.254",
    "2002:a9fe:a9fe::",
    "2001:0:1:1:0:0:5601:5601",
]


@pytest.mark.parametrize("address", [*CLOUDS, "127.0.0.1", "127.0.1.1", "::1", "0.0.0.0", "::", "64:ff9b:1::7f00:1"])  # noqa: S104
def test_no_name_may_lead_to_this_machine_or_to_a_clouds_credentials(address):
    reason = refused_address("storage.example", address, PUBLIC)
    assert reason is not None
    assert "storage.example" in reason
    assert refused_address("storage.example", address, "http://upstream.example") is not None
    assert refused_address("localhost", address, "http://127.0.0.1:9") is None  # an upstream on this machine


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "93.184.216.34", "2606:2800:220:1::1", "64:ff9b::93.184.216.34", "fd12::1"]
)
def test_a_name_may_lead_to_any_other_machine(address):
    assert refused_address("storage.example", address, PUBLIC) is None
    assert refused_address("Box.lan.", address, PUBLIC, "box.lan") is not None
    assert refused_address("box", address, PUBLIC, "box.lan") is not None


def test_what_the_upstream_gives_on_its_own_host_goes_where_the_key_goes():
    assert refused_address("Registry.example.", "127.0.0.1", PUBLIC) is None
    assert refused_address("sub.registry.example", "127.0.0.1", PUBLIC) is not None


@pytest.mark.parametrize("name", ["rebound.example", "ip6-localhost", "localhost.localdomain"])
def test_a_name_that_leads_to_loopback_is_not_connected_to_whoever_answers_for_it(root, monkeypatch, name):
    """The address that is dialled is the one that was judged, also when the name had another one a moment before."""
    lookups = []

    def resolver(host, port, *args, **kwargs):
        lookups.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with FaultyUpstream(many_models(2)) as upstream, FaultyUpstream(many_models(1)) as victim:
        port = urlsplit(victim.base_url).port
        url = f"http://{name}:{port}/latest/meta-data"
        upstream.inject(
            Edit(lambda answer: {**answer, "download_url": url, "data": {"download_url": url}}),
            kind="download",
            path="1/download",
            times=None,
        )
        monkeypatch.setattr("registry_mirror.transfer.http.socket.getaddrinfo", resolver)
        base_url = upstream.base_url.replace("127.0.0.1", "registry.example")
        finished = run_sync(upstream, root, {"upstream.base_url": base_url, "upstream.allow_http": True})
        assert name in lookups
        assert not victim.requests.entries
    failed = {each.name: each.error for each in finished.record.tally.failed}
    assert "is refused" in failed["model-00001"]
    assert name in failed["model-00001"]


@pytest.mark.parametrize("url", [*FORMS, *PLACES])
def test_an_error_shows_the_host_at_most(url):
    with pytest.raises(ProtocolError) as caught:
        check_target("download model 'x'", f"{url}?X-Signature=hunter2", PUBLIC)
    assert "hunter2" not in str(caught.value)
    assert "pass@" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://u:secret@127.0.0.1/a?sig=secret", "data:,weights"])
def test_a_hostile_address_fails_its_model_alone(root, url):
    with FaultyUpstream(many_models(3)) as upstream:
        upstream.inject(
            Edit(lambda answer: {**answer, "download_url": url, "data": {"download_url": url}}),
            kind="download",
            path="1/download",
            times=None,
        )
        finished = run_sync(upstream, root)
    assert finished.exit_code == 3
    (failed,) = finished.record.tally.failed
    assert (failed.name, "is refused" in failed.error) == ("model-00001", True)
    assert "secret" not in failed.error
    assert finished.record.tally.fetched.files == 2


def test_a_client_refuses_it_as_well(tmp_path):
    with FaultyUpstream(many_models(1)) as upstream:
        upstream.inject(Edit(lambda answer: {"data": {"download_url": "file:///etc/hostname"}}), kind="download")
        with (
            Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0)) as client,
            pytest.raises(ProtocolError, match="refused"),
        ):
            client.models.download("model-00000", tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
